-- Append events to sessions of one partition. Each append is all or nothing, and one that fails leaves the others alone.
--
-- KEYS: heads, feed, then one log per append
-- ARGV: per append: session, expected ('any', 'none', 'some' or a version), after, n, n entries
--       after is '' on the first try. On a later one it is a version that the session had before the first: the events
--       are then looked for above it, by the id with which each entry begins.
-- Returns per append: the session's new version, or {'already', version}, {'conflict', version, entries}, {'error', why}

local heads, feed = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local versions, times, results, accepted, conflicts, pointers = {}, {}, {}, {}, {}, {}

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

-- First decide everything, because a script's writes are not rolled back.
local at = 1
for a = 1, #KEYS - 2 do
  local log = KEYS[a + 2]
  local session, expected, after, n = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  local first = at + 4
  at = first + n
  local version = versions[session]
  if not version then
    local head = redis.call('HGET', heads, session)
    if head then
      local dash = string.find(head, '-', 1, true)
      version, times[session] = tonumber(string.sub(head, 1, dash - 1)), tonumber(string.sub(head, dash + 1))
    else
      version, times[session] = 0, 0
    end
  end
  local there = after ~= '' and version_of_event(log, string.sub(ARGV[first], 3, 38), tonumber(after))
  if there then
    results[a] = {'already', there + n - 1}
  elseif as_expected(expected, version) then
    accepted[#accepted + 1] = {a, log, session, version, first, n}
    version = version + n
    pointers[#pointers + 1] = session
    pointers[#pointers + 1] = number(version) .. '/' .. number(n)
  else
    conflicts[#conflicts + 1] = {a, log, version, (tonumber(expected) or 0) + 1}
  end
  versions[session] = version
end

-- Then write. The feed comes first: if the server has no memory left, it refuses here, with nothing written.
if #pointers > 0 then redis.call('XADD', feed, '*', unpack(pointers)) end
local broken = {}
for _, append in ipairs(accepted) do
  local a, log, session, version, first, n = unpack(append)
  local ms = number(math.max(now, times[session]))
  for i = 1, n do
    if not broken[session] then
      local added = redis.pcall('XADD', log, number(version + i) .. '-' .. ms, 'e', ARGV[first + i - 1])
      if type(added) == 'table' and added.err then broken[session] = added.err end
    end
  end
  if broken[session] then
    results[a] = {'error', broken[session]}
  else
    redis.call('HSET', heads, session, number(version + n) .. '-' .. ms)
    results[a] = version + n
  end
end

-- What got there first may have been written just now.
for _, conflict in ipairs(conflicts) do
  local a, log, version, first = unpack(conflict)
  results[a] = {'conflict', version, redis.call('XRANGE', log, number(first), number(version), 'COUNT', 100)}
end
return results
