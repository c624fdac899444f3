-- Append events to sessions of one partition. Each append is all or nothing, and one that fails leaves the others alone.
--
-- KEYS: heads, feed, tombstones, then one log per append
-- ARGV: per append its session; then per append how, and its entries
--       how is '<expected>/<after>/<entries>'; '' where that is 'any//1', as nearly always.
--       expected is 'any', 'none', 'some' or a version. after is empty on the first try. On a later one it is a version that
--       the session had before the first: the events are then looked for above it, by the id with which each begins.
-- Returns per append: the session's new version, or {'already', version}, {'conflict', version, entries}, {'forgotten'},
--   {'unknown'} (on a later try: the events may be in the archive), {'error', why}
--
-- This is what the server spends its time on, so it makes as few tables and calls as it can. And it writes each version out
-- once, by `format`: where a number is joined to a string, Lua writes it as a float, which takes as long as looking up a
-- field of a hash.

local call, match, format = redis.call, string.match, string.format

-- Versions are far below what Lua can count. Somebody may have written another into a head all the same.
local BEYOND = 1e14

-- An entry is '["<36 characters of event id>",...'
-- Returns the version that bears it; or nil, and whether a part of what was to be looked at lies in the archive.
local function version_of_event(log, id, after)
  local last, lowest = '+', nil
  while true do
    local page = call('XREVRANGE', log, last, after + 1, 'COUNT', 100)
    for _, found in ipairs(page) do
      lowest = tonumber(match(found[1], '^%d+'))
      if string.sub(found[2][2], 3, 38) == id then return lowest end
    end
    if #page < 100 then return nil, lowest and lowest > after + 1 end
    last = '(' .. page[#page][1]
  end
end

local function as_expected(expected, version)
  if expected == 'none' then return version == 0 end
  if expected == 'some' then return version > 0 end
  return tonumber(expected) == version
end

local KEYS, ARGV = KEYS, ARGV
local heads, feed, tombstones, appends = KEYS[1], KEYS[2], KEYS[3], #KEYS - 3

-- One event for one session, at any version: what nearly everybody sends who sends alone. What follows this comes to the
-- same, and takes longer (tests/bench/parts.py).
if appends == 1 and ARGV[2] == '' then
  local session, version, ms = ARGV[1], 0, nil
  local head = call('HGET', heads, session)
  if head then version, ms = match(head, '(%d+)-(%d+)') end
  if head or call('HEXISTS', tombstones, redis.sha1hex(session)) == 0 then
    version = version + 1
    if version >= BEYOND then return {{'error', 'ERR the version is beyond all bounds'}} end
    local text = format('%d', version)
    local now = match(call('XADD', feed, '*', session, text .. '/1'), '%d+')
    local place = text .. '-' .. (ms and tonumber(ms) > tonumber(now) and ms or now)
    local added = redis.pcall('XADD', KEYS[4], place, 'e', ARGV[3])
    if type(added) == 'table' then return {{'error', added.err}} end
    call('HSET', heads, session, place)
    return {version}
  end
end

-- First decide everything, because a script's writes are not rolled back. Of what is to be written, `counts` has the
-- number of events, `firsts` where they stand, `texts` the new version in writing, and `pointers` what the feed is to tell:
-- one pointer for each session.
local found = call('HMGET', heads, unpack(ARGV, 1, appends))
local versions, results, counts, firsts, texts, conflicts, again = {}, {}, {}, {}, {}, nil, nil
local pointers, pointed, events, at, told = {}, {}, {}, appends + 1, 0
for a = 1, appends do
  local session, how, expected, after, n = ARGV[a], ARGV[at], 'any', '', 1
  if how ~= '' then
    expected, after, n = match(how, '(%w+)/(%d*)/(%d+)')
    n = tonumber(n)
  end
  local version, forgotten = versions[session], false
  if not version then
    version = found[a] and tonumber(match(found[a], '%d+')) or 0
    forgotten = not found[a] and call('HEXISTS', tombstones, redis.sha1hex(session)) == 1
  end
  local there, hidden
  if after ~= '' and not forgotten then
    there, hidden = version_of_event(KEYS[a + 3], string.sub(ARGV[at + 1], 3, 38), tonumber(after))
  end
  if forgotten then
    results[a] = {'forgotten'}
  elseif hidden then
    results[a] = {'unknown'}
  elseif there then
    results[a] = {'already', there + n - 1}
    if found[a] then again = {session, found[a]} end
  elseif expected ~= 'any' and not as_expected(expected, version) then
    conflicts = conflicts or {}
    conflicts[#conflicts + 1] = {a, (tonumber(expected) or 0) + 1, version}
    results[a] = false
  elseif version + n >= BEYOND then
    results[a] = {'error', 'ERR the version is beyond all bounds'}
  else
    version = version + n
    local text = format('%d', version)
    results[a], counts[a], firsts[a], texts[a] = version, n, at + 1, text
    local pointer = pointed[session]
    if not pointer then
      pointer, told = told + 1, told + 2
      pointed[session], pointers[pointer], events[session] = pointer, session, 0
    end
    local more = events[session] + n
    events[session], pointers[pointer + 1] = more, text .. (more == 1 and '/1' or format('/%d', more))
  end
  if not forgotten then versions[session] = version end
  at = at + 1 + n
end

-- A WAIT behind this call has to cover what came on an earlier connection, so there has to be a write on this one.
if again then call('HSET', heads, unpack(again)) end

-- Then write. The feed comes first: if the server has no memory left, it refuses here, with nothing written. And its
-- entry's id tells the time.
if told > 0 then
  local now = match(call('XADD', feed, '*', unpack(pointers)), '%d+')
  local clock, add = tonumber(now), redis.pcall
  local reached, broken = {}, nil
  for a = 1, appends do
    local n = counts[a]
    if n then
      local session, log, before, first = ARGV[a], KEYS[a + 3], results[a] - n, firsts[a] - 1
      local ms = found[a] and match(found[a], '%-(%d+)')
      ms = '-' .. (ms and tonumber(ms) > clock and ms or now)
      local place, failed = texts[a] .. ms, broken and broken[session]
      if not failed then
        for i = 1, n do
          local added = add('XADD', log, i == n and place or format('%d', before + i) .. ms, 'e', ARGV[first + i])
          if type(added) == 'table' then
            broken = broken or {}
            broken[session], failed = added, added
            break
          end
        end
      end
      if failed then
        results[a] = {'error', failed.err}
      else
        reached[session] = place
      end
    end
  end
  local places, last = {}, 0
  for session, place in pairs(reached) do
    places[last + 1], places[last + 2] = session, place
    last = last + 2
  end
  if last > 0 then call('HSET', heads, unpack(places)) end
end

-- What got there first may have been written just now.
if conflicts then
  for _, conflict in ipairs(conflicts) do
    local a, from, version = unpack(conflict)
    local first = redis.pcall('XRANGE', KEYS[a + 3], from, version, 'COUNT', 100)
    results[a] = {'conflict', version, first.err and {} or first} -- others have been written, so this must not fail
  end
end
return results
