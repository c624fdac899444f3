-- Put a session out of sight: its tombstone stands, its head and views are gone, its log is put aside.
-- KEYS: tombstones, heads, log, aside, lease, chain, archived, then of each generation of views: session, history,
--   compaction, context, checkpoints, order, writes, sessions, totals, parked, attempts
-- ARGV: session, tombstone, then in turn: a count of the totals, the field of a session's state that it adds up
-- Returns the tombstone that stands now; false if there is no such session; {'damaged'} if a view cannot be read

-- include projections.redis/view.lua

local OF_GENERATION = 11
local tombstones, heads, log, aside = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local session, field = ARGV[1], redis.sha1hex(ARGV[1])

-- First read everything, because a script's writes are not rolled back.
local tombstone = redis.call('HGET', tombstones, field)
if not tombstone and redis.call('HEXISTS', heads, session) + redis.call('EXISTS', log) == 0 then return false end
local states = {}
for at = 8, #KEYS, OF_GENERATION do
  local version, _, _, stored = view_of(KEYS[at])
  if stored then
    local read, state = pcall(cjson.decode, stored)
    if not read or type(state) ~= 'table' then return {'damaged'} end
    state.version = tonumber(version)
    states[at] = state
  end
end

-- Then write, and first where the tombstone stands: who may not, is refused with nothing done. And that it comes to
-- nothing is for where memory is short: a script that has written is let go on, and this one makes room.
redis.call('HDEL', tombstones, '')
if not tombstone then
  tombstone = ARGV[2]
  redis.call('HSET', tombstones, field, tombstone)
end
redis.call('HDEL', heads, session)
redis.call('HDEL', KEYS[7], session)
if redis.call('EXISTS', log) == 1 then redis.call('RENAME', log, aside) end
redis.call('UNLINK', KEYS[5], KEYS[6])
for at = 8, #KEYS, OF_GENERATION do
  local view, writes, lists, totals, state = KEYS[at], KEYS[at + 6], KEYS[at + 7], KEYS[at + 8], states[at]
  if state then
    redis.call('ZREM', lists, session)
    redis.call('ZREM', lists .. ':status:' .. (state.status or 'active'), session)
    if type(state.user_id) == 'string' then redis.call('ZREM', lists .. ':user:' .. state.user_id, session) end
    state.configured = next(state.compaction or {}) and 1
    for i = 3, #ARGV, 2 do
      local counted = state[ARGV[i + 1]] or 0
      if counted > 0 then redis.call('HINCRBY', totals, ARGV[i], string.format('-%.0f', counted)) end
    end
  end
  for _, checkpoint in ipairs(redis.call('SMEMBERS', writes)) do redis.call('UNLINK', writes .. '\0' .. checkpoint) end
  redis.call('UNLINK', view, KEYS[at + 1], KEYS[at + 2], KEYS[at + 3], KEYS[at + 4], KEYS[at + 5], writes)
  redis.call('HDEL', KEYS[at + 9], session)
  redis.call('HDEL', KEYS[at + 10], session)
end
return tombstone
