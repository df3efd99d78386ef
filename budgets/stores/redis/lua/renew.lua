-- Prolongs the epoch key, only if it exists and carries this script's epoch. Sent after PostgreSQL recorded it.
--
-- KEYS  1 epoch key
-- ARGV  1 valid until, in ms
-- Replies: RENEWED | FENCED (flushed, or another epoch's)
-- Example: key {id: this, until: 1000}, ARGV 61000 -> until 61000, RENEWED
if redis.call('HGET', KEYS[1], 'id') ~= '@EPOCH@' then return {'FENCED'} end
if tonumber(ARGV[1]) > tonumber(redis.call('HGET', KEYS[1], 'until')) then
  redis.call('HSET', KEYS[1], 'until', ARGV[1])
end
return {'RENEWED'}
