-- Sets the epoch key of an epoch that PostgreSQL has recorded; run once for an epoch id, by the attempt that made it.
--
-- KEYS  1 epoch key
-- ARGV  1 valid until, in ms   2 when the epoch was recorded, in ms
-- Replies: OPENED | OLDER (a later epoch is there already: a controller that was held up must not undo its successor)
-- Example: key {id: other, since: 5}, ARGV 61000 6 -> key {id: @EPOCH@, until: 61000, since: 6}, OPENED
local since = redis.call('HGET', KEYS[1], 'since')
if since and tonumber(since) > tonumber(ARGV[2]) then return {'OLDER'} end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'id', '@EPOCH@', 'until', ARGV[1], 'since', ARGV[2])
return {'OPENED'}
