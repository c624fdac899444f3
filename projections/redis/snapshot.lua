-- A session view and the events after it, at most so many: {version, state, tail, false, whether it is all that is kept}.
-- Where the log does not hold what the views were folded from, it is as if there were none, and two words more, version
-- and state, tell of those that there are. So it is, too, where only the session view of a short session is kept, and
-- more than that is asked for.

-- include eventstore.redis/stands.lua

local function snapshot(session_view, log, head, most, whole)
  local view = redis.call('HMGET', session_view, 'version', 'state', 'let-go', 'head')
  local version, place = view[1] or '0', view[4] or ''

  local function events_after() return redis.call('XRANGE', log, string.format('%.0f', version + 1), '+', 'COUNT', most) end
  local function nothing(lacks) return {'0', false, redis.call('XRANGE', log, '1', '+', 'COUNT', most), false, lacks} end

  local tail = {}
  if whole and view[3] and string.sub(view[3], 1, 5) == 'short' then
    return nothing(view[3])
  elseif place == '' then
    tail = events_after()
  elseif head ~= place then
    tail = redis.call('XRANGE', log, version, '+', 'COUNT', most + 1)
    if tail[1] and tail[1][1] == place then
      table.remove(tail, 1)
    elseif stands(head, log, place) then
      tail = events_after()
    else
      local found = nothing(false)
      found[6], found[7] = version, view[2]
      return found
    end
  end
  return {version, view[2], tail, false, view[3]}
end
