-- The views of sessions of one partition and the events after them; and which of the sessions are parked.
-- KEYS: heads, parked, then per session: session view, log
-- ARGV: most events of a tail, the sessions
-- Returns what `snapshots` does.

-- include projections.redis/snapshots.lua

return snapshots(KEYS[1], KEYS[2], {unpack(ARGV, 2)}, ARGV[1], function(i) return KEYS[2 * i + 1], KEYS[2 * i + 2] end)
