-- A session's view and the events after it, seen at one moment; and, if asked, one small thing of another view.
-- KEYS: session view, log, [other view]   ARGV: most events of the tail, [command on the other view, its arguments]
-- Returns {version, state, tail, value, whether the session view is all that is kept (false if it is not)}

local view = redis.call('HMGET', KEYS[1], 'version', 'state', 'let-go')
local version = view[1] or '0'
local tail = redis.call('XRANGE', KEYS[2], string.format('%.0f', version + 1), '+', 'COUNT', ARGV[1])
local value = ARGV[2] and redis.call(ARGV[2], KEYS[3], unpack(ARGV, 3))
return {version, view[2], tail, value or false, view[3]}
