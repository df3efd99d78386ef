-- Prolongs a hold that is still there.
--
-- KEYS  1 epoch key   2 hold   3 expiries
-- ARGV  1 hold id   2 more ms, from now   3 longest life in ms, from placing
-- Replies: EXTENDED placed_ms expires_ms incarnations | GONE | TOO_LONG latest_ms | FENCED now_ms
-- Example: placed at 0, now 60,000, more 120,000 -> EXTENDED 0 180000 "1"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local fence = redis.call('HMGET', KEYS[1], 'id', 'until')
if fence[1] ~= '@EPOCH@' or now >= tonumber(fence[2]) then return {'FENCED', now} end
local hold = redis.call('HMGET', KEYS[2], 'id', 'at', 'ex', 'inc')
-- An expired hold may be presumed spent at any moment: prolonging it would promise what a sweep takes back.
if hold[1] ~= ARGV[1] or now >= tonumber(hold[3]) then return {'GONE'} end
local latest = tonumber(hold[2]) + tonumber(ARGV[3])
local expires = math.max(tonumber(hold[3]), now + tonumber(ARGV[2]))
if expires > latest then return {'TOO_LONG', latest} end
redis.call('HSET', KEYS[2], 'ex', expires)
redis.call('ZADD', KEYS[3], expires, KEYS[2])
return {'EXTENDED', tonumber(hold[2]), expires, hold[4]}
