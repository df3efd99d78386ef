-- Reads counters and the names of all holds of the shard at one instant. Writes nothing.
--
-- KEYS  1 epoch key   2 expiries   3.. counters
-- ARGV  1 the most holds that are named
-- Replies: LOOK now_ms names, then for each counter: {inc, seq, chunk, used, held}, nil where there is none
--          MANY count (more holds than that: nothing else is told)
--          FENCED (flushed, or another epoch's: what is missing then is lost, which the controller deals with, and no drift)
-- Example: one hold of 4 on a counter of 10 -> LOOK 1700000000000 {"{nb01}:…:h:…"} {"1", "1", "10", "4", "4"}
if redis.call('HGET', KEYS[1], 'id') ~= '@EPOCH@' then return {'FENCED'} end
local count = redis.call('ZCARD', KEYS[2])
if count > tonumber(ARGV[1]) then return {'MANY', count} end
local time = redis.call('TIME')
local reply = {'LOOK', time[1] * 1000 + math.floor(time[2] / 1000), redis.call('ZRANGE', KEYS[2], 0, -1)}
for i = 3, #KEYS do reply[#reply + 1] = redis.call('HMGET', KEYS[i], 'inc', 'seq', 'chunk', 'used', 'held') end
return reply
