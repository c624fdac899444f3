-- What is noted of a log's file in the archive, and a part of the log, seen at one moment.
-- KEYS: archived, log   ARGV: session, then XRANGE or XREVRANGE and what stands behind its key   Returns {note, entries}

return {redis.call('HGET', KEYS[1], ARGV[1]), redis.call(ARGV[2], KEYS[2], unpack(ARGV, 3))}
