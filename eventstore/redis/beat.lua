-- Note that a consumer is alive, and forget those that have been silent for long.
-- KEYS: workers   ARGV: group/name, seconds of silence after which to forget

local now = redis.call('TIME')[1]
redis.call('HSET', KEYS[1], ARGV[1], now)
local beats = redis.call('HGETALL', KEYS[1])
for i = 1, #beats, 2 do
  if now - beats[i + 1] > tonumber(ARGV[2]) then redis.call('HDEL', KEYS[1], beats[i]) end
end
