-- Write the views of sessions of one partition: of each, if they still stand at the version from which the change was
-- folded, and the log still holds what was folded: it may have come from a server in whose place another one has stepped
-- since.
-- KEYS: heads, tombstones, totals; per session its view and its log; then every other key that is written
-- ARGV: how many sessions, the sessions; then per session how many words follow, and these:
--         the version folded from,
--         of the session view then the place of the last event that was folded ('' for none), the version, what it lacks
--         ('=' for what it lacked before), the state,
--         #gone, keys that are in the way ...
--         #counts, fields of the totals and how much each grows ...
--         the session's score in lists, #lists, lists ...
--         #commands, and of each: #words, words ...
-- Returns per session 1 if written; 0 if the views have moved on, the session was forgotten, or the log has lost what was
--   folded; or an error.

-- include eventstore.redis/stands.lua
-- include projections.redis/view.lua

-- The place of an event that no log has: views that were folded from it are made anew.
local NOWHERE = '99999999999999-0'

local call, sessions = redis.call, tonumber(ARGV[1])
local heads = call('HMGET', KEYS[1], unpack(ARGV, 2, sessions + 1))
local totals, lists, results = {}, {}, {}
local written, at

-- Return the bounds of the words that stand behind their number, and go on behind them.
local function words()
  local first = at + 1
  at = first + ARGV[at]
  return first, at - 1
end

local function commit(i)
  local session, view = ARGV[i + 1], KEYS[2 * i + 2]
  local base, place, version, lacks, state = unpack(ARGV, at, at + 4)
  local stored, _, lacked = view_of(view)
  if stored ~= base then return 0 end
  if lacks == '=' and string.sub(lacked, 1, 5) == 'short' then return 0 end -- there is nothing to which it could be added
  if base == '0' and not heads[i] and call('HEXISTS', KEYS[2], redis.sha1hex(session)) == 1 then return 0 end
  if place ~= '' and not stands(heads[i], KEYS[2 * i + 3], place) then return 0 end

  at = at + 5
  local first, last = words()
  for key = first, last do call('UNLINK', ARGV[key]) end
  keep_view(view, version, place, lacks == '=' and lacked or lacks, state)
  written = view
  first, last = words()
  for field = first, last, 2 do totals[ARGV[field]] = (totals[ARGV[field]] or 0) + ARGV[field + 1] end
  local score = ARGV[at]
  at = at + 1
  first, last = words()
  for list = first, last do
    local members = lists[ARGV[list]] or {}
    members[#members + 1], members[#members + 2] = score, session
    lists[ARGV[list]] = members
  end
  local commands = ARGV[at]
  at = at + 1
  for _ = 1, commands do call(unpack(ARGV, words())) end
  return 1
end

-- One that cannot be written does not keep the others from it. But where nothing can be written now, that is the reply.
local position = {}
local next_one = sessions + 2
for i = 1, sessions do
  at, next_one, written = next_one + 1, next_one + 1 + ARGV[next_one], nil
  position[ARGV[i + 1]] = i
  local done, result = pcall(commit, i)
  if not done then
    local why = type(result) == 'table' and result.err or result
    local not_now = string.match(why, 'READONLY.*') or string.match(why, 'NOREPLICAS.*')
    if not_now then return {err = not_now} end
    if written then
      local version, _, lacks, state = view_of(written)
      keep_view(written, version, NOWHERE, lacks, state)
    end
    result = {err = why}
  end
  results[i] = result
end
for field, more in pairs(totals) do
  if more ~= 0 then
    local grown = redis.pcall('HINCRBY', KEYS[3], field, more)
    if type(grown) == 'table' then results[1] = grown end
  end
end
for list, members in pairs(lists) do
  local added = redis.pcall('ZADD', list, unpack(members))
  if type(added) == 'table' then
    for member = 2, #members, 2 do results[position[members[member]]] = added end
  end
end
return results
