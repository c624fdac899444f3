-- Write or remove views of a session, and say in the session view what it lacks then; if that still stands at the version,
-- and nobody else is at it.
-- KEYS: session view, then every key that the commands name
-- ARGV: the version, what it lacks now ('*' for whatever it is), what it lacks then; and of each command: #words, words ...
-- Returns 1 if done, 0 if not.

-- include projections.redis/view.lua

local version, place, lacks, state = view_of(KEYS[1])
if version ~= ARGV[1] then return 0 end
-- It lacks already what it is to lack then, if this very call has been made before, and its reply was lost.
if ARGV[2] ~= '*' and lacks ~= ARGV[2] then return lacks == ARGV[3] and 1 or 0 end
-- Where memory is short, a script that has written is let go on: so what makes room can say so in the session view.
local at = 4
while at <= #ARGV do
  local words = tonumber(ARGV[at])
  redis.call(unpack(ARGV, at + 1, at + words))
  at = at + words + 1
end
keep_view(KEYS[1], version, place, ARGV[3], state)
return 1
