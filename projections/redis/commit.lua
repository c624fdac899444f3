-- Write a session's views, if they still stand at the version from which the change was folded.
-- KEYS: session view, tombstones, then every key that the commands name
-- ARGV: session, the version folded from, then the commands that write: number of words, words
-- Returns 1 if written, 0 if the views have moved on, or the session was forgotten.

if (redis.call('HGET', KEYS[1], 'version') or '0') ~= ARGV[2] then return 0 end
if ARGV[2] == '0' and redis.call('HEXISTS', KEYS[2], redis.sha1hex(ARGV[1])) == 1 then return 0 end
local at = 3
while at <= #ARGV do
  local words = tonumber(ARGV[at])
  redis.call(unpack(ARGV, at + 1, at + words))
  at = at + words + 1
end
return 1
