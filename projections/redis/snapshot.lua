-- A session view and the events after it, at most so many: {version, state, tail, false, what it lacks}.
-- Where the log does not hold what the views were folded from, it is as if there were none, and two words more, version
-- and state, tell of those that there are. So it is, too, where only the session view of a short session is kept, and
-- more than that is asked for. Of what is no session view it tells but a state that nobody can read.

-- include eventstore.redis/stands.lua
-- include projections.redis/view.lua

local function snapshot(session_view, log, head, most, whole)
  local call = redis.call
  local version, place, lacks, state = view_of(session_view)
  if version == 'damaged' then return {'0', state, {}, false, ''} end
  if whole and string.sub(lacks, 1, 5) == 'short' then
    return {'0', false, call('XRANGE', log, '1', '+', 'COUNT', most), false, lacks}
  end
  if place ~= '' then
    if head == place then return {version, state, {}, false, lacks} end
    local tail = call('XRANGE', log, version, '+', 'COUNT', most + 1)
    if tail[1] and tail[1][1] == place then
      table.remove(tail, 1)
      return {version, state, tail, false, lacks}
    end
    if not stands(head, log, place) then
      return {'0', false, call('XRANGE', log, '1', '+', 'COUNT', most), false, '', version, state}
    end
  end
  local tail = call('XRANGE', log, string.format('%.0f', version + 1), '+', 'COUNT', most)
  return {version, state, tail, false, lacks}
end
