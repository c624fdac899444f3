-- Take new entries of all feeds of one server, and of each the views of the first sessions of which it tells.
-- KEYS: the feeds, the heads, the parked: of each as many as there are partitions
-- ARGV: most sessions of a partition, most events of a tail,
--       per partition how keys of session views begin, and those of logs: of which sessions, the feed alone tells;
--       the words of XREADGROUP
-- Returns per feed that has something new: its number, the entries, the sessions, and what `snapshots` does.

-- include projections.redis/snapshots.lua

local partitions, most, taken = #KEYS / 3, tonumber(ARGV[1]), {}
local sessions, view, log
local function keys_of(i) return view .. sessions[i], log .. sessions[i] end

for _, found in ipairs(redis.call('XREADGROUP', unpack(ARGV, 3 + 2 * partitions)) or {}) do
  local entries, there, p = found[2], {}, 1
  while KEYS[p] ~= found[1] do p = p + 1 end
  sessions, view, log = {}, ARGV[2 * p + 1], ARGV[2 * p + 2]
  for _, entry in ipairs(entries) do
    for at = 1, #entry[2], 2 do
      local session = entry[2][at]
      if not there[session] and #sessions < most then
        there[session] = true
        sessions[#sessions + 1] = session
      end
    end
  end
  local heads, parked = KEYS[partitions + p], KEYS[2 * partitions + p]
  taken[#taken + 1] = {p - 1, entries, sessions, snapshots(heads, parked, sessions, ARGV[2], keys_of)}
end
return taken
