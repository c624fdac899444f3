-- Write a session's views, if they still stand at the version from which the change was folded, and the log still holds
-- what was folded: it may have come from a server in whose place another one has stepped since.
-- KEYS: session view, tombstones, log, heads, then every key that the commands name
-- ARGV: session, the version folded from, the place of the last event that was folded ('' for none), then the commands
--       that write: number of words, words
-- Returns 1 if written, 0 if the views have moved on, the session was forgotten, or the log has lost what was folded.

-- include eventstore.redis/stands.lua

if (redis.call('HGET', KEYS[1], 'version') or '0') ~= ARGV[2] then return 0 end
if ARGV[2] == '0' and redis.call('HEXISTS', KEYS[2], redis.sha1hex(ARGV[1])) == 1 then return 0 end
if ARGV[3] ~= '' and not stands(KEYS[4], KEYS[3], ARGV[1], ARGV[3]) then return 0 end
local at = 4
while at <= #ARGV do
  local words = tonumber(ARGV[at])
  redis.call(unpack(ARGV, at + 1, at + words))
  at = at + words + 1
end
return 1
