-- Whether a log still holds the event in a place ('<version>-<ms>'), on which something was built. It does not if it was
-- cut back, or goes another way: a server took over that lacked what had been acknowledged, or somebody changed it.
local function stands(head, log, place)
  if head == place then return true end
  local version = string.match(place, '%d+')
  local found = redis.call('XRANGE', log, version, '+', 'COUNT', 1)[1]
  if found and found[1] == place then return true end
  -- It may lie in an archive, if the log has gone on since.
  version = tonumber(version)
  if not head or tonumber(string.match(head, '%d+')) <= version then return false end
  return not found or tonumber(string.match(found[1], '%d+')) > version
end
