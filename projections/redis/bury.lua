-- Write a tombstone, and let go of the log that was put aside, if that is said.
-- KEYS: tombstones, aside   ARGV: field, tombstone, 1 to let go of the log

-- A script that has written is let go on where memory is short, so this begins with a write that does nothing.
redis.call('HDEL', KEYS[1], '')
if ARGV[3] == '1' then redis.call('UNLINK', KEYS[2]) end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
