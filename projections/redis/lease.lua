-- Give a lease to one holder at a time, or end it.
-- KEYS: lease   ARGV: holder, milliseconds (0 to end it)   Returns 1 if the holder has it, or had it; 0 if another has.

local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return 1
