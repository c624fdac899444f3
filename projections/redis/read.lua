-- A session's view and the events after it, seen at one moment; and, if asked, one small thing of another view.
-- KEYS: session view, log, heads, [other view]
-- ARGV: most events of the tail, session, [command on the other view, its arguments]
-- Returns {version, state, tail, value, whether the session view is all that is kept (false if it is not)}. Where the log
--   does not hold what the views were folded from, it answers as if there were none, and tells theirs as {..., version, state}

-- include eventstore.redis/stands.lua

local view = redis.call('HMGET', KEYS[1], 'version', 'state', 'let-go', 'head')
local version = view[1] or '0'
local forked = view[4] and view[4] ~= '' and not stands(KEYS[3], KEYS[2], ARGV[2], view[4])
local after = forked and '1' or string.format('%.0f', version + 1)
local tail = redis.call('XRANGE', KEYS[2], after, '+', 'COUNT', ARGV[1])
if forked then return {'0', false, tail, false, false, version, view[2]} end
local value = ARGV[3] and redis.call(ARGV[3], KEYS[4], unpack(ARGV, 4))
return {version, view[2], tail, value or false, view[3]}
