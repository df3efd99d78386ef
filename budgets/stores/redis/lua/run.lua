-- Tells a run's record, unless a later one is there.
--
-- KEYS  1 epoch key   2 run
-- ARGV  1 version   2 record (opaque)   3 life in ms: what was told is read from PostgreSQL again after that
-- Replies: TOLD | LATER version | FENCED now_ms
-- Example: version 2 (stopped) is there; version 1 arrives late -> LATER 2
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local fence = redis.call('HMGET', KEYS[1], 'id', 'until')
if fence[1] ~= '@EPOCH@' or now >= tonumber(fence[2]) then return {'FENCED', now} end
local there = redis.call('HGET', KEYS[2], 'v')
if there and tonumber(there) > tonumber(ARGV[1]) then return {'LATER', tonumber(there)} end
redis.call('HSET', KEYS[2], 'v', ARGV[1], 'body', ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return {'TOLD'}
