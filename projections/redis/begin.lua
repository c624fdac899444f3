-- Begin to build a generation of views, or take up the one that somebody began.
-- KEYS: namespace
-- ARGV: field of the live build, of the one being built, of the last one begun; the live one if nothing is said; anew
-- Returns the build to make. With anew = '1' it is one that nobody has begun. No number is given twice.

local building = redis.call('HGET', KEYS[1], ARGV[2])
if building and ARGV[5] ~= '1' then return tonumber(building) end
local live = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or ARGV[4])
local last = tonumber(redis.call('HGET', KEYS[1], ARGV[3]) or 0)
local build = math.max(live, last) + 1
redis.call('HSET', KEYS[1], ARGV[2], build, ARGV[3], build)
return build
