-- A session view is one string: '<version> <place> <lacks> <state as JSON>'.
-- The place is that of the last event that was folded, '<version>-<ms>'. What it lacks tells why the other views are not
-- kept. Either may be empty. A hash of the four would take twice the memory.

-- Return version, place, what it lacks, and state. Of nothing the version is '0' and the state false; of what is no session
-- view the version is 'damaged', and the state is no JSON.
local function view_of(key)
  local stored = redis.pcall('GET', key)
  if not stored then return '0', '', '', false end
  if type(stored) == 'table' then
    if not string.find(stored.err, 'WRONGTYPE', 1, true) then return redis.call('GET', key) end
    stored = ''
  end
  -- Who has overwritten it may have written anything: no version has leading zeros, or more digits than Lua can count.
  local version, place, lacks, state = string.match(stored, '^([1-9]%d*) (%d+%-%d+) ([%w/:]*) ({.*)$')
  if not version then
    place, version, lacks, state = '', string.match(stored, '^(%d+)  ([%w/:]*) ({.*)$')
    if version and string.find(version, '^0.') then version = nil end
  end
  if not version or #version > 14 then return 'damaged', '', '', 'damaged' end
  return version, place, lacks, state
end

local function keep_view(key, version, place, lacks, state)
  redis.call('SET', key, version .. ' ' .. place .. ' ' .. lacks .. ' ' .. state)
end
