-- A session's view and the events after it, seen at one moment; and, if asked, one small thing of another view.
-- KEYS: session view, log, heads, [other view]
-- ARGV: most events of the tail, session, [command on the other view, its arguments]
-- Returns {version, state, tail, value, whether the session view is all that is kept (false if it is not)}. Where the log
--   does not hold what the views were folded from, it answers as if there were none, and tells theirs as {..., version, state}

-- include eventstore.redis/stands.lua

local view = redis.call('HMGET', KEYS[1], 'version', 'state', 'let-go', 'head')
local version, place = view[1] or '0', view[4] or ''

local function events_after() return redis.call('XRANGE', KEYS[2], string.format('%.0f', version + 1), '+', 'COUNT', ARGV[1]) end

local tail = {}
if place == '' then
  tail = events_after()
elseif redis.call('HGET', KEYS[3], ARGV[2]) ~= place then
  tail = redis.call('XRANGE', KEYS[2], version, '+', 'COUNT', ARGV[1] + 1)
  if tail[1] and tail[1][1] == place then
    table.remove(tail, 1)
  elseif stands(KEYS[3], KEYS[2], ARGV[2], place) then
    tail = events_after()
  else
    tail = redis.call('XRANGE', KEYS[2], '1', '+', 'COUNT', ARGV[1])
    return {'0', false, tail, false, false, version, view[2]}
  end
end
local value = ARGV[3] and redis.call(ARGV[3], KEYS[4], unpack(ARGV, 4))
return {version, view[2], tail, value or false, view[3]}
