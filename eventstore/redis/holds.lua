-- Whether a log still holds the event in a place ('<version>-<ms>'; for '<version>' alone: any, or one that came later).
-- KEYS: heads, log   ARGV: session, place   Returns 1 or 0

-- include eventstore.redis/stands.lua

local head = redis.call('HGET', KEYS[1], ARGV[1])
if string.find(ARGV[2], '-', 1, true) then return stands(head, KEYS[2], ARGV[2]) and 1 or 0 end
return tonumber(string.match(head or '0', '%d+')) >= tonumber(ARGV[2]) and 1 or 0
