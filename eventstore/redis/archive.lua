-- Keep of a log its last entry alone, and note which file holds all of it.
-- KEYS: heads, archived, log, released
-- ARGV: session, head that it must have, what to note, what must be noted so far ('' for nothing), when the file was
--       begun (ms), how long ago that may be (ms), the file of which was noted so far
-- Returns 1 if it was done, 0 if something has changed meanwhile.
--
-- The last entry stays so that whoever reads the log from an earlier version on sees that something is missing.

local session, head = ARGV[1], ARGV[2]
if redis.call('HGET', KEYS[1], session) ~= head then return 0 end
if (redis.call('HGET', KEYS[2], session) or '') ~= ARGV[4] then return 0 end
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
if ms - ARGV[5] > tonumber(ARGV[6]) then return 0 end
local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
if not last or last[1] ~= head then return 0 end

-- A script that has written is let go on where memory is short, and this one makes room: so it begins with a write
-- that does nothing. Then the note: without it nothing may go.
redis.call('HDEL', KEYS[2], '')
redis.call('HSET', KEYS[2], session, ARGV[3])
if ARGV[4] ~= '' then redis.call('HSET', KEYS[4], ARGV[7], string.format('%.0f', ms)) end
redis.call('UNLINK', KEYS[3])
redis.call('XADD', KEYS[3], head, unpack(last[2]))
return 1
