-- Write the views of sessions of one partition: of each, if they still stand at the version from which the change was
-- folded, and the log still holds what was folded: it may have come from a server in whose place another one has stepped
-- since.
-- KEYS: heads, tombstones, totals; per session its view and its log; then every other key that is written
-- ARGV: how many sessions, the sessions; then per session how many words follow, and these:
--       the version folded from, the place of the last event that was folded ('' for none), and each with its number
--       before it: commands (of each its words), words to set in the session view, counts (field, more),
--       and, behind the score of the session in them, lists
-- Returns per session 1 if written; 0 if the views have moved on, the session was forgotten, or the log has lost what was
--   folded; or an error.

-- include eventstore.redis/stands.lua

local call, sessions = redis.call, tonumber(ARGV[1])
local heads = call('HMGET', KEYS[1], unpack(ARGV, 2, sessions + 1))
local totals, lists = {}, {}

local function commit(i, at)
  local session, view, base, place = ARGV[i + 1], KEYS[2 * i + 2], ARGV[at], ARGV[at + 1]
  if (call('HGET', view, 'version') or '0') ~= base then return 0 end
  if base == '0' and not heads[i] and call('HEXISTS', KEYS[2], redis.sha1hex(session)) == 1 then return 0 end
  if place ~= '' and not stands(heads[i], KEYS[2 * i + 3], place) then return 0 end

  local commands = ARGV[at + 2]
  at = at + 3
  for _ = 1, commands do
    local words = ARGV[at]
    call(unpack(ARGV, at + 1, at + words))
    at = at + 1 + words
  end
  local last = at + ARGV[at]
  call('HSET', view, unpack(ARGV, at + 1, last))
  at, last = last + 1, last + 1 + ARGV[last + 1]
  for count = at + 1, last, 2 do totals[ARGV[count]] = (totals[ARGV[count]] or 0) + ARGV[count + 1] end
  local score = ARGV[last + 1]
  at = last + 2
  for list = at + 1, at + ARGV[at] do
    local members = lists[ARGV[list]] or {}
    members[#members + 1], members[#members + 2] = score, session
    lists[ARGV[list]] = members
  end
  return 1
end

-- One that cannot be written does not keep the others from it. But where nothing can be written now, that is the reply.
local results, at = {}, sessions + 2
for i = 1, sessions do
  local done, result = pcall(commit, i, at + 1)
  if not done then
    local why = type(result) == 'table' and result.err or result
    local not_now = string.match(why, 'READONLY.*') or string.match(why, 'NOREPLICAS.*')
    if not_now then return {err = not_now} end
    result = {err = why}
  end
  results[i] = result
  at = at + 1 + ARGV[at]
end
for field, more in pairs(totals) do
  if more ~= 0 then call('HINCRBY', KEYS[3], field, more) end
end
for list, members in pairs(lists) do call('ZADD', list, unpack(members)) end
return results
