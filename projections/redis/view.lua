-- A session view is one string: '<version> <place> <lacks> <state as JSON>'.
-- The place is that of the last event that was folded, '<version>-<ms>'. What it lacks tells why the other views are not
-- kept. Either may be empty. A hash of the four would take twice the memory.

-- Return version, place, what it lacks, and state. Of nothing the version is '0' and the state false; of what is no session
-- view the version is 'damaged', and the state is no JSON.
local function view_of(key)
  local stored = redis.call('GET', key)
  if not stored then return '0', '', '', false end
  local version, place, lacks, state = string.match(stored, '^(%d+) (%d*%-?%d*) (%S*) ({.*)$')
  if not version then return 'damaged', '', '', 'damaged' end
  return version, place, lacks, state
end

local function keep_view(key, version, place, lacks, state)
  redis.call('SET', key, version .. ' ' .. place .. ' ' .. lacks .. ' ' .. state)
end
