-- Put entries back into a session with their own versions and times, behind the head that it is expected to have.
-- KEYS: heads, feed, log, tombstones   ARGV: session, expected head ('' for no session), n, then n ids and entries in turn
-- Returns false if it was done; 'forgotten' if the session was; else its head, '' if it has none although there is a log.

local heads, feed, log = KEYS[1], KEYS[2], KEYS[3]
local session, expected, n = ARGV[1], ARGV[2], tonumber(ARGV[3])

local head = redis.call('HGET', heads, session) or ''
if head == '' and redis.call('HEXISTS', KEYS[4], redis.sha1hex(session)) == 1 then return 'forgotten' end
if head ~= expected then return head end
local newest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
if (newest and newest[1] or '') ~= expected then return newest and newest[1] or '' end

local last = ARGV[2 + 2 * n]
redis.call('XADD', feed, '*', session, string.match(last, '^%d+') .. '/' .. string.format('%.0f', n))
for i = 1, n do redis.call('XADD', log, ARGV[2 + 2 * i], 'e', ARGV[3 + 2 * i]) end
redis.call('HSET', heads, session, last)
return false
