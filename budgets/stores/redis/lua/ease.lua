-- Corrects what guards counted of a call by what it really cost. Soft: what is gone already stays gone.
--
-- KEYS  1 epoch key   2.. states of guards
-- ARGV  1 difference in nano-USD (negative: it cost less)   2 placed_ms   then for each state its kind ("v", "n")
-- Replies: EASED count | FENCED now_ms
-- Example: held 100 at 12:00:07 and settled 30 -> the slot of 12:00:00 and the minute 12:00 have 70 less
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local fence = redis.call('HMGET', KEYS[1], 'id', 'until')
if fence[1] ~= '@EPOCH@' or now >= tonumber(fence[2]) then return {'FENCED', now} end
local eased = 0
for i = 2, #KEYS do
  if ARGV[i + 1] == 'v' then
    for _, name in ipairs({'s' .. string.format('%d', math.floor(ARGV[2] / 10000)),
        'm' .. string.format('%d', math.floor(ARGV[2] / 60000))}) do
      if redis.call('HEXISTS', KEYS[i], name) == 1 then
        redis.call('HINCRBY', KEYS[i], name, ARGV[1])
        eased = eased + 1
      end
    end
  elseif redis.call('EXISTS', KEYS[i]) == 1 then
    redis.call('INCRBY', KEYS[i], ARGV[1])
    eased = eased + 1
  end
end
return {'EASED', eased}
