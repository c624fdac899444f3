-- Forget a consumer, unless it holds entries that it has not acknowledged: deleting it would lose them.
-- KEYS: feed   ARGV: group, consumer   Returns 1 if it was forgotten.

local held = redis.pcall('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2])
if held.err or #held > 0 then return 0 end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 1
