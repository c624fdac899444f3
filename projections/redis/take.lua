-- Take new entries of all feeds of one server, and of each the views of the first sessions of which it tells.
-- KEYS: the feeds, the heads, the parked: of each as many as there are partitions
-- ARGV: group, consumer, most entries and most sessions of a partition, most events of a tail,
--       per partition how keys of session views begin, and those of logs: of which sessions, the feed alone tells
-- Returns per feed that has something new: its number, the entries, the sessions, and what `snapshots` does.

-- include projections.redis/snapshots.lua

local partitions = #KEYS / 3
local command = {'XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[3], 'STREAMS', unpack(KEYS, 1, partitions)}
for _ = 1, partitions do command[#command + 1] = '>' end
local taken, most, number = {}, tonumber(ARGV[4]), {}
for p = 1, partitions do number[KEYS[p]] = p end

for _, found in ipairs(redis.call(unpack(command)) or {}) do
  local p, entries, sessions, there = number[found[1]], found[2], {}, {}
  for _, entry in ipairs(entries) do
    for at = 1, #entry[2], 2 do
      local session = entry[2][at]
      if not there[session] and #sessions < most then
        there[session] = true
        sessions[#sessions + 1] = session
      end
    end
  end
  local view, log = ARGV[2 * p + 4], ARGV[2 * p + 5]
  local function keys_of(i) return view .. sessions[i], log .. sessions[i] end
  local heads, parked = KEYS[partitions + p], KEYS[2 * partitions + p]
  taken[#taken + 1] = {p - 1, entries, sessions, snapshots(heads, parked, sessions, ARGV[5], keys_of)}
end
return taken
