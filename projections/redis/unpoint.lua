-- Take a session out of some entries of a feed. What they tell of other sessions is told again, at the feed's end.
-- KEYS: feed   ARGV: session, then the places of the entries

local feed, session = KEYS[1], ARGV[1]

local groups = {}
for i, info in ipairs(redis.call('XINFO', 'GROUPS', feed)) do
  for at = 1, #info, 2 do
    if info[at] == 'name' then groups[i] = info[at + 1] end
  end
end
for i = 2, #ARGV do
  local entry = redis.call('XRANGE', feed, ARGV[i], ARGV[i])[1]
  if entry then
    local others = {}
    for at = 1, #entry[2], 2 do
      if entry[2][at] ~= session then
        others[#others + 1] = entry[2][at]
        others[#others + 1] = entry[2][at + 1]
      end
    end
    redis.call('XDEL', feed, ARGV[i])
    for _, group in ipairs(groups) do redis.call('XACK', feed, group, ARGV[i]) end
    if #others > 0 then redis.call('XADD', feed, '*', unpack(others)) end
  end
end
