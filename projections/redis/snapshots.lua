-- The session views of some sessions and the events after them, without what else is asked of a view; and which of them
-- are parked: 1 in the fourth place of such a snapshot, else 0. `keys_of` returns of each its session view and its log.

-- include projections.redis/snapshot.lua

local function snapshots(heads, parked, sessions, most, keys_of)
  local places, marks = redis.call('HMGET', heads, unpack(sessions)), redis.call('HMGET', parked, unpack(sessions))
  local found = {}
  for i = 1, #sessions do
    local view, log = keys_of(i)
    found[i] = snapshot(view, log, places[i], most, false)
    found[i][4] = marks[i] and 1 or 0
  end
  return found
end
