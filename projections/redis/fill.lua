-- Write a part of the views that had been let go, if they still stand at the version and nobody else is at it.
-- KEYS: session view, then every key that the commands name
-- ARGV: the version, what stands under 'let-go', what is to stand there ('' for nothing: the views are whole again),
--       then the commands that write: number of words, words
-- Returns 1 if written, 0 if not.

local view = redis.call('HMGET', KEYS[1], 'version', 'let-go')
if view[1] ~= ARGV[1] or view[2] ~= ARGV[2] then return 0 end
local at = 4
while at <= #ARGV do
  local words = tonumber(ARGV[at])
  redis.call(unpack(ARGV, at + 1, at + words))
  at = at + words + 1
end
if ARGV[3] == '' then redis.call('HDEL', KEYS[1], 'let-go') else redis.call('HSET', KEYS[1], 'let-go', ARGV[3]) end
return 1
