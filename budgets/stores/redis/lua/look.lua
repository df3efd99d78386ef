-- Reads counters and the names of all holds of the shard at one instant. Writes nothing, and needs no open epoch (@EPOCH@).
--
-- KEYS  1 expiries   2.. counters
-- ARGV  1 the most holds that are named
-- Replies: LOOK now_ms names, then for each counter: {inc, seq, chunk, used, held}, nil where there is none
--          MANY count (more holds than that: nothing else is told)
-- Example: one hold of 4 on a counter of 10 -> LOOK 1700000000000 {"{nb01}:…:h:…"} {"1", "1", "10", "4", "4"}
local count = redis.call('ZCARD', KEYS[1])
if count > tonumber(ARGV[1]) then return {'MANY', count} end
local time = redis.call('TIME')
local reply = {'LOOK', time[1] * 1000 + math.floor(time[2] / 1000), redis.call('ZRANGE', KEYS[1], 0, -1)}
for i = 2, #KEYS do reply[#reply + 1] = redis.call('HMGET', KEYS[i], 'inc', 'seq', 'chunk', 'used', 'held') end
return reply
