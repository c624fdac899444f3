-- How far a consumer group has come in a feed.
-- KEYS: feed   ARGV: group
-- Returns {last entry or '', last delivered, '' if there is no such group, oldest pending or '', number pending, number
--   undelivered (1000 at most), milliseconds since the oldest of both was added or '', and of the oldest pending: its
--   consumer or '', milliseconds since it was handed out, how often it was}

local feed, group = KEYS[1], ARGV[1]
local newest = redis.call('XREVRANGE', feed, '+', '-', 'COUNT', 1)
local last = newest[1] and newest[1][1] or ''

local function age(entry)
  if not entry then return '' end
  local time = redis.call('TIME')
  return string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) - string.match(entry[1], '^%d+'))
end

if redis.call('EXISTS', feed) == 0 then return {'', '', '', 0, 0, '', '', 0, 0} end
for _, info in ipairs(redis.call('XINFO', 'GROUPS', feed)) do
  local fields = {}
  for i = 1, #info, 2 do fields[info[i]] = info[i + 1] end
  if fields['name'] == group then
    local delivered = fields['last-delivered-id']
    local undelivered = redis.call('XRANGE', feed, '(' .. delivered, '+', 'COUNT', 1000)
    local pending = redis.call('XPENDING', feed, group)
    local held = redis.call('XPENDING', feed, group, '-', '+', 1)[1]
    local holder = held or {'', '', 0, 0}
    local waits = age(held or undelivered[1])
    return {last, delivered, pending[2] or '', pending[1], #undelivered, waits, holder[2], holder[3], holder[4]}
  end
end
local entries = redis.call('XRANGE', feed, '-', '+', 'COUNT', 1000)
return {last, '', '', 0, #entries, age(entries[1]), '', 0, 0}
