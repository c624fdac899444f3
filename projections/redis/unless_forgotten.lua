-- Carry out a command that keeps something of a session, unless the session was forgotten.
-- KEYS: tombstones, the command's key   ARGV: session, command, its arguments behind the key
-- Returns its reply; false if the session was forgotten.

if redis.call('HEXISTS', KEYS[1], redis.sha1hex(ARGV[1])) == 1 then return false end
return redis.call(ARGV[2], KEYS[2], unpack(ARGV, 3))
