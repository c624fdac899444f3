-- The views of sessions of one partition and the events after them; and which of the sessions are parked.
-- KEYS: heads, parked, then per session: session view, log
-- ARGV: most events of a tail, the sessions
-- Returns per session what `snapshot` does, with 1 in the fourth place if it is parked.

-- include projections.redis/snapshot.lua

local heads = redis.call('HMGET', KEYS[1], unpack(ARGV, 2))
local parked = redis.call('HMGET', KEYS[2], unpack(ARGV, 2))
local found = {}
for i = 1, #heads do
  found[i] = snapshot(KEYS[2 * i + 1], KEYS[2 * i + 2], heads[i], ARGV[1], false)
  found[i][4] = parked[i] and 1 or 0
end
return found
