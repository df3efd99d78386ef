-- Places a hold as preflight.lua does (whose text stands in here), if the call's run goes on and no guard stops the call.
-- One script, so that what a guard counts and what was placed are the same; a call that repeats itself counts once.
--
-- KEYS  own ones first: the run (if any), then one for each guard that keeps a state; then those of preflight.lua
-- ARGV  1 number of own KEYS   2 number of own ARGV
--       3 the run's version ("": no run)   4 its end in ms ("0": never)   5 "go", or "over" when it was closed
--       6 the call's cost in nano-USD
--       then five for each guard: kind, mode ("e" enforce, "o" observe), and three of its own:
--         "r" repeats: times, ms, "" (no more than `times` in `ms`)
--         "v" velocity: most in a minute in nano-USD ("": no fixed one), multiple in thousandths of the usual minute
--             ("": no norm), least in nano-USD that the norm stops at
--         "n" newcomer: most in nano-USD, end of its first time in ms, ""
--         "x" tripped already, by what needs no state: its figure, "", "" (no key)
--       then those of preflight.lua
-- Replies:
--   RUN version record   a later record is known here     RUN_UNKNOWN   none is here: PostgreSQL must be asked
--   RUN_OVER             it was closed                    RUN_LATE now_ms   its time is over
--   TRIPPED trips        then three for each guard that tripped: index, mode, figure
--   PASSED trips reply   trips of observing guards, and preflight.lua's reply; STALE_POLICY, FENCED as that one's
-- Example: guard 1 is "r" "e" 5 60000 and this request was seen 5 times in the last minute -> TRIPPED {1, "e", 5}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local own_keys, own_args = tonumber(ARGV[1]), tonumber(ARGV[2])
local function after(list, count)
  local rest = {}
  for i = count + 1, #list do rest[#rest + 1] = list[i] end
  return rest
end
local place = function(KEYS, ARGV)
@PREFLIGHT@
end
local keys, args = after(KEYS, own_keys), after(ARGV, own_args)
local fence = redis.call('HMGET', keys[1], 'id', 'until')
if fence[1] ~= '@EPOCH@' or now >= tonumber(fence[2]) then return {'FENCED', now} end
local version = redis.call('GET', keys[2])
if not version or tonumber(version) > tonumber(args[1]) then return {'STALE_POLICY', version or '0'} end
-- What was placed is placed: its replay is answered whatever has become of the run since, so that it can be freed.
if redis.call('EXISTS', keys[3]) == 1 then return {'PASSED', {}, place(keys, args)} end

local at_key = 0
if ARGV[3] ~= '' then
  at_key = 1
  local run = redis.call('HMGET', KEYS[1], 'v', 'body')
  if not run[1] then return {'RUN_UNKNOWN'} end
  -- A gateway that is ahead of Redis is right.
  if tonumber(run[1]) > tonumber(ARGV[3]) then return {'RUN', tonumber(run[1]), run[2]} end
  if ARGV[5] == 'over' then return {'RUN_OVER'} end
  if ARGV[4] ~= '0' and now >= tonumber(ARGV[4]) then return {'RUN_LATE', now} end
end

local cost, dry = tonumber(ARGV[6]), args[6] == 'dry'
local trips, stopped, notes = {}, false, {}
local function trip(index, mode, figure)
  trips[#trips + 1], trips[#trips + 2], trips[#trips + 3] = index, mode, figure
  if mode == 'e' then stopped = true end
end
local index = 0
for at = 7, own_args, 5 do
  index = index + 1
  local kind, mode, a, b, c = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  if kind == 'x' then
    trip(index, mode, tonumber(a))
  else
    at_key = at_key + 1
    local key = KEYS[at_key]
    if kind == 'r' then
      local times, span = tonumber(a), tonumber(b)
      local earliest = redis.call('LINDEX', key, times - 1)
      if earliest and now - tonumber(earliest) < span then trip(index, mode, times) end
      -- Attempts that are stopped count as well: a loop stays stopped until it pauses.
      notes[#notes + 1] = {true, function()
        redis.call('LPUSH', key, now)
        redis.call('LTRIM', key, 0, times - 1)
        redis.call('PEXPIRE', key, span)
      end}
    elseif kind == 'v' then
      local slot, minute = math.floor(now / 10000), math.floor(now / 60000)
      local fields, recent, usual, first = redis.call('HGETALL', key), 0, 0, minute
      local old = {}
      for i = 1, #fields, 2 do
        local name, value = fields[i], tonumber(fields[i + 1])
        local what, number = string.sub(name, 1, 1), tonumber(string.sub(name, 2))
        if what == 's' then
          if number > slot - 6 then recent = recent + value else old[#old + 1] = name end
        elseif number < minute - 30 then
          old[#old + 1] = name
        else
          first = math.min(first, number)
          if number < minute then usual = usual + value end
        end
      end
      local sum = recent + cost
      if a ~= '' and sum > tonumber(a) then
        trip(index, mode, sum)
      elseif b ~= '' and minute - first >= 10 and sum > tonumber(c) and sum * 1000 > tonumber(b) * usual / (minute - first) then
        trip(index, mode, sum)
      end
      notes[#notes + 1] = {false, function()
        for _, name in ipairs(old) do redis.call('HDEL', key, name) end
        redis.call('HINCRBY', key, 's' .. string.format('%d', slot), ARGV[6])
        redis.call('HINCRBY', key, 'm' .. string.format('%d', minute), ARGV[6])
        redis.call('PEXPIRE', key, 1920000)
      end}
    else
      local most, ends = tonumber(a), tonumber(b)
      if now < ends then
        local sum = tonumber(redis.call('GET', key) or '0') + cost
        if sum > most then trip(index, mode, sum) end
        notes[#notes + 1] = {false, function()
          redis.call('INCRBY', key, ARGV[6])
          redis.call('PEXPIREAT', key, ends + 60000)
        end}
      end
    end
  end
end
local function note(passed)
  if dry then return end
  for _, one in ipairs(notes) do if passed or one[1] then one[2]() end end
end
if stopped then
  note(false)
  return {'TRIPPED', trips}
end
local reply = place(keys, args)
if reply[1] == 'PLACED' then note(true) end
return {'PASSED', trips, reply}
