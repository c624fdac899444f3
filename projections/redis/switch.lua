-- Make the generation that is being built the live one, in one step.
-- KEYS: namespace   ARGV: field of the live build, field of the one being built, the build
-- Returns 1 if this was the build; 0 if another is being built, or none.

if redis.call('HGET', KEYS[1], ARGV[2]) ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('HDEL', KEYS[1], ARGV[2])
return 1
