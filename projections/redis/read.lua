-- A session's view and the events after it, seen at one moment; and, if asked, one small thing of another view.
-- KEYS: session view, log, heads, [other view]
-- ARGV: most events of the tail, session, [command on the other view, its arguments]
-- Returns what `snapshot` does, with the command's reply in the fourth place.

-- include projections.redis/snapshot.lua

local found = snapshot(KEYS[1], KEYS[2], redis.call('HGET', KEYS[3], ARGV[2]), ARGV[1], true)
if ARGV[3] and #found == 6 and found[5] == '' then found[4] = redis.call(ARGV[3], KEYS[4], unpack(ARGV, 4)) end
return found
