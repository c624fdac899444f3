-- Put a log that was put together again in the place of what was left of it, and release the file.
-- KEYS: heads, archived, log, released, the whole log   ARGV: session, what must be noted, the file that it notes
-- Returns 1 if it was done; 0 if something else is noted by now; 'gap' if the whole log is not whole.

local session, log, whole = ARGV[1], KEYS[3], KEYS[5]
if redis.call('HGET', KEYS[2], session) ~= ARGV[2] then return 0 end

local function last_of(key)
  local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  return last and last[1] or '0-0'
end

-- What was appended while it was being put together.
for _, entry in ipairs(redis.call('XRANGE', log, '(' .. last_of(whole), '+')) do
  redis.call('XADD', whole, entry[1], unpack(entry[2]))
end
local head = redis.call('HGET', KEYS[1], session) or ''
if last_of(whole) ~= head or redis.call('XLEN', whole) ~= tonumber(string.match(head, '^%d+')) then return 'gap' end
local now = redis.call('TIME')
redis.call('HSET', KEYS[4], ARGV[3], string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000)))
redis.call('PERSIST', whole)
redis.call('RENAME', whole, log)
redis.call('HDEL', KEYS[2], session)
return 1
