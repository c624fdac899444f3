-- A session view and the events after it: {version, state, tail, false, what it lacks, how the tail ends}.
-- The tail has at most so many events, and none after the one with which it comes to `TAIL_BYTES`. It ends with the log
-- (0), or perhaps before (1), or there is no log that can be read (2).
-- Where the log does not hold what the views were folded from, it is as if there were none, and two words more, version
-- and state, tell of those that there are. So it is, too, where only the session view of a short session is kept, and
-- more than that is asked for. Of what is no session view it tells but a state that nobody can read.

-- include eventstore.redis/stands.lua
-- include projections.redis/view.lua

local TAIL_BYTES = 65536

-- Return the events from an id on, the first ones before others are looked at, for they may be large; and how they end.
-- What they weigh counts from the `counted`th on.
local function tail_from(log, id, most, counted)
  local tail, bytes, count = {}, 0, 3
  most = tonumber(most)
  while true do
    count = math.min(count, most - #tail)
    local found = redis.pcall('XRANGE', log, id, '+', 'COUNT', count)
    if found.err then
      if string.find(found.err, 'WRONGTYPE', 1, true) then return {}, 2 end
      return redis.call('XRANGE', log, id, '+', 'COUNT', count)
    end
    for _, entry in ipairs(found) do
      if bytes >= TAIL_BYTES then return tail, 1 end
      tail[#tail + 1] = entry
      if #tail >= counted then bytes = bytes + #entry[2][2] end
    end
    if #found < count then return tail, 0 end
    if #tail == most or bytes >= TAIL_BYTES then return tail, 1 end
    id, count = '(' .. found[#found][1], 4 * count
  end
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
    if more == 2 then return {version, state, tail, false, lacks, more} end
    if not stands(head, log, place) then
      tail, more = tail_from(log, '1', most, 1)
      return {'0', false, tail, false, '', more, version, state}
    end
  end
  tail, more = tail_from(log, string.format('%.0f', version + 1), most, 1)
  return {version, state, tail, false, lacks, more}
end
