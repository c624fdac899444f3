-- A session view and the events after it: {version, state, tail, false, what it lacks, 1 if the tail may end early}.
-- The tail has at most so many events, and none after the one with which it comes to `TAIL_BYTES`. Where the log does not hold what the views were folded from, it is as if there were none, and two words more, version
-- and state, tell of those that there are. So it is, too, where only the session view of a short session is kept, and
-- more than that is asked for. Of what is no session view it tells but a state that nobody can read.

-- include eventstore.redis/stands.lua
-- include projections.redis/view.lua

local TAIL_BYTES = 65536

-- Return the events from an id on, and 1 where there may be more of them, else 0. What they weigh counts from one of them.
local function tail_from(log, id, most, one)
  local tail, bytes = redis.call('XRANGE', log, id, '+', 'COUNT', most), 0
  for i = one, #tail do
    bytes = bytes + #tail[i][2][2]
    if bytes >= TAIL_BYTES and i < #tail then
      for later = #tail, i + 1, -1 do tail[later] = nil end
      return tail, 1
    end
  end
  return tail, #tail < tonumber(most) and 0 or 1
end

local function snapshot(session_view, log, head, most, whole)
  local version, place, lacks, state = view_of(session_view)
  if version == 'damaged' then return {'0', state, {}, false, '', 0} end
  local tail, more
  if whole and string.sub(lacks, 1, 5) == 'short' then
    tail, more = tail_from(log, '1', most, 1)
    return {'0', false, tail, false, lacks, more}
  end
  if place ~= '' then
    if head == place then return {version, state, {}, false, lacks, 0} end
    tail, more = tail_from(log, version, most + 1, 2)
    if tail[1] and tail[1][1] == place then
      table.remove(tail, 1)
      return {version, state, tail, false, lacks, more}
    end
    if not stands(head, log, place) then
      tail, more = tail_from(log, '1', most, 1)
      return {'0', false, tail, false, '', more, version, state}
    end
  end
  tail, more = tail_from(log, string.format('%.0f', version + 1), most, 1)
  return {version, state, tail, false, lacks, more}
end
