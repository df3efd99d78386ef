-- Applies the first posting of a resolved hold and deletes the hold. Sent after PostgreSQL has committed.
--
-- KEYS  1 hold   2 expiries   3.. counters
-- ARGV  1 hold id, then three for each counter: incarnation ("0": a rate by the minute), held, first posting
-- Replies: APPLIED | GONE (no such hold: applied before, or another life of its key)
-- It needs no epoch key: it only frees what PostgreSQL has already booked, and its own text names the epoch (@EPOCH@).
-- Example: held 40, posted 25 -> used falls by 15, held by 40.
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return {'GONE'} end
for i = 1, #KEYS - 2 do
  local at = 3 * i - 1
  local key, held, kept = KEYS[2 + i], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local back = math.min(kept, held) - held
  if ARGV[at] == '0' then
    -- A rate counts what was really used, more than held included, while its minute still matters.
    if redis.call('EXISTS', key) == 1 then redis.call('INCRBY', key, kept - held) end
  elseif redis.call('HGET', key, 'inc') == ARGV[at] then
    redis.call('HINCRBY', key, 'used', back)
    redis.call('HINCRBY', key, 'held', -held)
  end
end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], KEYS[1])
return {'APPLIED'}
