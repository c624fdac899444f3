-- How far a consumer group has come in a feed.
-- KEYS: feed   ARGV: group
-- Returns {last entry or '', last delivered or '', oldest pending or '', number pending, number undelivered (1000 at most)}

local feed, group = KEYS[1], ARGV[1]
local newest = redis.call('XREVRANGE', feed, '+', '-', 'COUNT', 1)
local last = newest[1] and newest[1][1] or ''
if redis.call('EXISTS', feed) == 0 then return {'', '', '', 0, 0} end
for _, info in ipairs(redis.call('XINFO', 'GROUPS', feed)) do
  local fields = {}
  for i = 1, #info, 2 do fields[info[i]] = info[i + 1] end
  if fields['name'] == group then
    local delivered = fields['last-delivered-id']
    local undelivered = #redis.call('XRANGE', feed, '(' .. delivered, '+', 'COUNT', 1000)
    local pending = redis.call('XPENDING', feed, group)
    return {last, delivered, pending[2] or '', pending[1], undelivered}
  end
end
return {last, '', '', 0, #redis.call('XRANGE', feed, '-', '+', 'COUNT', 1000)}
