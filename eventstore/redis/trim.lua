-- Drop the entries of a feed that every consumer group has acknowledged, and remember up to where.
-- KEYS: feed, trimmed   Returns the number of entries dropped.

local feed, trimmed = KEYS[1], KEYS[2]
if redis.call('EXISTS', feed) == 0 then return 0 end

local function less(a, b)
  local a_ms, a_seq = string.match(a, '(%d+)-(%d+)')
  local b_ms, b_seq = string.match(b, '(%d+)-(%d+)')
  if a_ms ~= b_ms then return tonumber(a_ms) < tonumber(b_ms) end
  return tonumber(a_seq) < tonumber(b_seq)
end

local keep  -- the oldest entry that some group still needs
for _, info in ipairs(redis.call('XINFO', 'GROUPS', feed)) do
  local fields = {}
  for i = 1, #info, 2 do fields[info[i]] = info[i + 1] end
  local pending = redis.call('XPENDING', feed, fields['name'])
  local needed
  if pending[1] > 0 then
    needed = pending[2]
  else
    needed = fields['last-delivered-id']
    local ms, seq = string.match(needed, '(%d+)-(%d+)')
    -- Beyond, Lua cannot count. No server comes so far; somebody has written it, and the one entry stays.
    if tonumber(seq) < 2 ^ 53 then needed = ms .. '-' .. string.format('%.0f', seq + 1) end
  end
  if not keep or less(needed, keep) then keep = needed end
end
if not keep then return 0 end
local last = redis.call('XREVRANGE', feed, '(' .. keep, '-', 'COUNT', 1)[1]
if not last then return 0 end
redis.call('SET', trimmed, last[1])
return redis.call('XTRIM', feed, 'MINID', keep)
