-- Gives up one incarnation of a counter and leaves a tombstone, so that a delayed load never recreates it.
--
-- KEYS  1 counter
-- ARGV  1 incarnation   2 "1": leave no tombstone (its window is over: no hold can be placed there again)
-- Replies: RETIRED used (a repeat answers the same) | MISSING (what was used is unknown; a tombstone is left)
-- Needs no epoch key: a planned close deletes that first. Epoch: @EPOCH@.
-- Example: chunk 10, used 7 -> RETIRED 7; PostgreSQL takes 3 back.
local c = redis.call('HMGET', KEYS[1], 'inc', 'used', 'gone')
if c[3] and tonumber(c[3]) >= tonumber(ARGV[1]) then
  if c[3] == ARGV[1] and c[2] then return {'RETIRED', tonumber(c[2])} end
  return {'MISSING'}
end
if c[1] and tonumber(c[1]) > tonumber(ARGV[1]) then return {'MISSING'} end
local known = c[1] == ARGV[1]
redis.call('DEL', KEYS[1])
if ARGV[2] ~= '1' then
  redis.call('HSET', KEYS[1], 'gone', ARGV[1])
  if known then redis.call('HSET', KEYS[1], 'used', c[2]) end
end
if known then return {'RETIRED', tonumber(c[2])} end
return {'MISSING'}
