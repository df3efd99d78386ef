-- Raises a tenant's policy version; never lowers it. Epoch: @EPOCH@.
--
-- KEYS  1 the tenant's policy version
-- ARGV  1 version
-- Replies: VERSION v (what stands there now)
-- Example: 7 stands there, ARGV 5 -> VERSION 7
local now = tonumber(redis.call('GET', KEYS[1]) or '0')
if tonumber(ARGV[1]) > now then
  now = tonumber(ARGV[1])
  redis.call('SET', KEYS[1], ARGV[1])
end
return {'VERSION', now}
