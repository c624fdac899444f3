-- A session view and the events after it, at most so many: {version, state, tail, false, what it lacks}.
-- Where the log does not hold what the views were folded from, it is as if there were none, and two words more, version
-- and state, tell of those that there are. So it is, too, where only the session view of a short session is kept, and
-- more than that is asked for. Of what is no session view it tells but a state that nobody can read.

-- include eventstore.redis/stands.lua
-- include projections.redis/view.lua

local function snapshot(session_view, log, head, most, whole)
  local version, place, lacks, state = view_of(session_view)
  if version == 'damaged' then return {'0', state, {}, false, ''} end

  local function events_after() return redis.call('XRANGE', log, string.format('%.0f', version + 1), '+', 'COUNT', most) end
  local function nothing(but) return {'0', false, redis.call('XRANGE', log, '1', '+', 'COUNT', most), false, but} end

  local tail = {}
  if whole and string.sub(lacks, 1, 5) == 'short' then
    return nothing(lacks)
  elseif place == '' then
    tail = events_after()
  elseif head ~= place then
    tail = redis.call('XRANGE', log, version, '+', 'COUNT', most + 1)
    if tail[1] and tail[1][1] == place then
      table.remove(tail, 1)
    elseif stands(head, log, place) then
      tail = events_after()
    else
      local found = nothing('')
      found[6], found[7] = version, state
      return found
    end
  end
  return {version, state, tail, false, lacks}
end
