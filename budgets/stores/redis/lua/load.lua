-- Applies a load message: authority that PostgreSQL granted to one incarnation of a counter.
--
-- KEYS  1 epoch key   2 counter
-- ARGV  1 incarnation   2 sequence   3 total granted   4 parent_free   5 budget version   6 limit
--       7 "1": may create the key (no message of this incarnation was ever acknowledged)
--       8 until when the limit is this one, in ms; "": for good. From then on preflight.lua asks
-- Replies: APPLIED seq chunk used | KEPT seq chunk used (an older message; this is what stands) | MISSING | RETIRED
--          FENCED (flushed, or another epoch's: an acknowledgement would vouch for a counter that is gone)
-- The total is cumulative, so a lost message is made good by the next. parent_free comes as it will be once a shrink to
-- the total counts; what cannot shrink because it is used already is taken off it.
-- Example: chunk 10, used 7, message total 5, parent_free 0 (a shrink) -> chunk 7, parent_free -2: APPLIED seq 7 7
if redis.call('HGET', KEYS[1], 'id') ~= '@EPOCH@' then return {'FENCED'} end
local c = redis.call('HMGET', KEYS[2], 'inc', 'seq', 'chunk', 'used', 'gone')
local incarnation = tonumber(ARGV[1])
if c[5] and tonumber(c[5]) >= incarnation then return {'RETIRED'} end
if c[1] and tonumber(c[1]) > incarnation then return {'RETIRED'} end
local fresh = not c[1] or tonumber(c[1]) < incarnation
if fresh and ARGV[7] ~= '1' then return {'MISSING'} end
if not fresh and tonumber(c[2]) >= tonumber(ARGV[2]) then
  return {'KEPT', tonumber(c[2]), tonumber(c[3]), tonumber(c[4])}
end
local used = fresh and 0 or tonumber(c[4])
local total = tonumber(ARGV[3])
local chunk = math.max(used, total)
local above = tonumber(ARGV[4]) - (chunk - total)
if fresh then
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], 'inc', ARGV[1], 'used', 0, 'held', 0)
end
redis.call('HSET', KEYS[2], 'seq', ARGV[2], 'chunk', chunk, 'pf', above, 'bv', ARGV[5], 'lim', ARGV[6])
if ARGV[8] and ARGV[8] ~= '' then redis.call('HSET', KEYS[2], 'end', ARGV[8]) else redis.call('HDEL', KEYS[2], 'end') end
return {'APPLIED', tonumber(ARGV[2]), chunk, used}
