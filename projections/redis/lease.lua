-- Give a lease to one holder at a time, or end it.
-- KEYS: lease, tombstones   ARGV: session, holder, milliseconds (0 to end it)
-- Returns 1 if the holder has it, or had it; 0 if another has. Of a session that was forgotten, nothing is kept.

local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[2] then return 0 end
if ARGV[3] == '0' then
  redis.call('DEL', KEYS[1])
elseif redis.call('HEXISTS', KEYS[2], redis.sha1hex(ARGV[1])) == 0 then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 1
