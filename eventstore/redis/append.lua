-- Append events to sessions of one partition. Each append is all or nothing, and one that fails leaves the others alone.
--
-- KEYS: heads, feed, tombstones, then one log per append
-- ARGV: per append: session, expected ('any', 'none', 'some' or a version), after, n, n entries
--       after is '' on the first try. On a later one it is a version that the session had before the first: the events
--       are then looked for above it, by the id with which each entry begins.
-- Returns per append: the session's new version, or {'already', version}, {'conflict', version, entries}, {'forgotten'},
--   {'error', why}
--
-- This is what the server spends its time on, so it makes as few tables and calls as it can.

local heads, feed, tombstones, appends = KEYS[1], KEYS[2], KEYS[3], #KEYS - 3

local function number(n) return string.format('%.0f', n) end

-- An entry is '["<36 characters of event id>",...'
local function version_of_event(log, id, after)
  local last = '+'
  while true do
    local page = redis.call('XREVRANGE', log, last, number(after + 1), 'COUNT', 100)
    for _, found in ipairs(page) do
      if string.sub(found[2][2], 3, 38) == id then return tonumber(string.match(found[1], '^%d+')) end
    end
    if #page < 100 then return nil end
    last = '(' .. page[#page][1]
  end
end

local function as_expected(expected, version)
  if expected == 'any' then return true end
  if expected == 'none' then return version == 0 end
  if expected == 'some' then return version > 0 end
  return tonumber(expected) == version
end

-- Where the arguments of each append begin, and whose they are.
local places, sessions, at = {}, {}, 1
for a = 1, appends do
  places[a], sessions[a] = at, ARGV[at]
  at = at + 4 + ARGV[at + 3]
end

-- First decide everything, because a script's writes are not rolled back.
local found = redis.call('HMGET', heads, unpack(sessions))
local versions, times, bases, results, pointers, conflicts = {}, {}, {}, {}, {}, {}
for a = 1, appends do
  local session, place = sessions[a], places[a]
  local version, forgotten = versions[session], false
  if not version then
    local head = found[a]
    local dash = head and string.find(head, '-', 1, true)
    version = dash and tonumber(string.sub(head, 1, dash - 1)) or 0
    times[session] = dash and tonumber(string.sub(head, dash + 1)) or 0
    forgotten = not head and redis.call('HEXISTS', tombstones, redis.sha1hex(session)) == 1
  end
  local after, n = ARGV[place + 2], ARGV[place + 3]
  local there = not forgotten and after ~= '' and version_of_event(KEYS[a + 3], string.sub(ARGV[place + 4], 3, 38), tonumber(after))
  if forgotten then
    results[a], version = {'forgotten'}, nil
  elseif there then
    results[a] = {'already', there + n - 1}
  elseif as_expected(ARGV[place + 1], version) then
    bases[a] = version
    version = version + n
    results[a] = version
    pointers[#pointers + 1] = session
    pointers[#pointers + 1] = number(version) .. '/' .. n
  else
    conflicts[#conflicts + 1] = a
    results[a] = version
  end
  versions[session] = version
end

-- Then write. The feed comes first: if the server has no memory left, it refuses here, with nothing written. And its
-- entry's id tells the time.
if #pointers > 0 then
  local now = tonumber(string.match(redis.call('XADD', feed, '*', unpack(pointers)), '^%d+'))
  local reached, broken = {}, {}
  for a = 1, appends do
    local version = bases[a]
    if version then
      local session, log, first = sessions[a], KEYS[a + 3], places[a] + 3
      local ms = '-' .. number(math.max(now, times[session]))
      for i = 1, results[a] - version do
        local added = broken[session] or redis.pcall('XADD', log, number(version + i) .. ms, 'e', ARGV[first + i])
        if type(added) == 'table' then broken[session] = added end
      end
      if broken[session] then
        results[a] = {'error', broken[session].err}
      else
        reached[#reached + 1] = session
        reached[#reached + 1] = number(results[a]) .. ms
      end
    end
  end
  if #reached > 0 then redis.call('HSET', heads, unpack(reached)) end
end

-- What got there first may have been written just now.
for _, a in ipairs(conflicts) do
  local from = (tonumber(ARGV[places[a] + 1]) or 0) + 1
  results[a] = {'conflict', results[a], redis.call('XRANGE', KEYS[a + 3], number(from), number(results[a]), 'COUNT', 100)}
end
return results
