-- Places one hold on every counter of a call, or on none.
--
-- KEYS  1 epoch key   2 the tenant's policy version   3 hold   4 expiries (sorted set)   5.. counters
-- ARGV  1 policy version   2 hold id   3 digest of the request   4 ttl in ms   5 body (opaque)
--       6 "place" or "dry"
--       then six for each counter: kind ("b" block, "w" warn, "m" rate by the minute, "n" such a rate that only warns),
--       amount, budget version,
--       window start in ms, window end in ms ("0": never), limit (rates only)
-- Replies, first the word:
--   PLACED placed_ms expires_ms incarnations, then for each counter: remaining, limit, fitted (1/0)
--   FITS   the same for a dry run, which asks for nothing and writes nothing; fitted 2: only PostgreSQL knows
--   REPLAY placed_ms expires_ms incarnations hold_id request_digest body   (this Idempotency-Key holds already)
--   DENY   "exceeded"|"busy" index remaining limit room   (room: what would fit beside what is spent)
--   ASK    then three for each counter that lacks authority: index, chunk, used (0 0: no such key, or retired)
--   STALE_POLICY version ("0": unknown here, or a budget is newer than the gateway's)   STALE_WINDOW now_ms index   FENCED now_ms
-- Example: a budget of 10, chunk 10, used 7 (of which 3 held), parent_free 0; need 4
--   -> free 3 < 4, free + held 6 >= 4 -> DENY busy 1 3 10 6
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local fence = redis.call('HMGET', KEYS[1], 'id', 'until')
if fence[1] ~= '@EPOCH@' or now >= tonumber(fence[2]) then return {'FENCED', now} end
local version = redis.call('GET', KEYS[2])
if version ~= ARGV[1] then
  -- A gateway that is ahead of Redis is right; only an older or an unknown version is stale.
  if not version or tonumber(version) > tonumber(ARGV[1]) then return {'STALE_POLICY', version or '0'} end
end
local old = redis.call('HMGET', KEYS[3], 'at', 'ex', 'inc', 'id', 'rq', 'body')
if old[1] then return {'REPLAY', tonumber(old[1]), tonumber(old[2]), old[3], old[4], old[5], old[6]} end

local count = #KEYS - 4
local incarnations, rows, asks = {}, {}, {}
local refused, busy
local function lack(...)
  for _, value in ipairs({...}) do asks[#asks + 1] = value end
end
for i = 1, count do
  local at = 6 * i + 1
  local kind, need = ARGV[at], tonumber(ARGV[at + 1])
  local starts, ends = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  if now < starts or (ends > 0 and now >= ends) then return {'STALE_WINDOW', now, i} end
  if kind == 'm' or kind == 'n' then
    local used, limit = tonumber(redis.call('GET', KEYS[4 + i]) or '0'), tonumber(ARGV[at + 5])
    incarnations[i] = '0'
    local fits = need == 0 or need <= limit - used
    rows[i] = {limit - used - need, limit, fits and 1 or 0}
    if kind == 'm' and not fits and not refused then refused = {i, limit - used, limit, limit - used} end
  else
    local c = redis.call('HMGET', KEYS[4 + i], 'chunk', 'used', 'held', 'pf', 'bv', 'inc', 'lim', 'gone', 'end')
    if c[8] or not c[1] then
      lack(i, 0, 0)
      incarnations[i], rows[i] = '0', {0, 0, 2}
    else
      local free, held, above, limit = c[1] - c[2], tonumber(c[3]), tonumber(c[4]), tonumber(c[7])
      -- What costs nothing is never refused: free models must not be blocked by an overrun.
      -- A warn counter never asks for more, so it is measured against all that is left above it as well.
      local fits = need == 0 or need <= free + (kind == 'w' and above or math.min(0, above))
      incarnations[i] = c[6]
      rows[i] = {free + above - need, limit, fits and 1 or 0}
      if tonumber(c[5]) > tonumber(ARGV[at + 2]) then return {'STALE_POLICY', '0'} end
      -- A limit that has fallen by itself since is as stale as one of an older version.
      if c[5] ~= ARGV[at + 2] or (c[9] and now >= tonumber(c[9])) then
        lack(i, tonumber(c[1]), tonumber(c[2]))
        rows[i][3] = 2
      elseif kind == 'b' and not fits then
        if need > free + above + held then
          if not refused then refused = {i, free + above, limit, free + above + held} end
        elseif need > free + above then
          if not busy then busy = {i, free + above, limit, free + above + held} end
        else
          lack(i, tonumber(c[1]), tonumber(c[2]))
        end
      end
    end
  end
end
if refused then return {'DENY', 'exceeded', refused[1], refused[2], refused[3], refused[4]} end
if #asks > 0 and ARGV[6] ~= 'dry' then return {'ASK', unpack(asks)} end
if busy then return {'DENY', 'busy', busy[1], busy[2], busy[3], busy[4]} end

local expires = now + tonumber(ARGV[4])
local joined = table.concat(incarnations, ',')
local reply = {ARGV[6] == 'dry' and 'FITS' or 'PLACED', now, expires, joined}
for i = 1, count do
  for j = 1, 3 do reply[#reply + 1] = rows[i][j] end
end
if ARGV[6] == 'dry' then return reply end
-- Everything is checked: from here on only writes, since a script that fails half-way keeps what it wrote.
for i = 1, count do
  local at = 6 * i + 1
  if ARGV[at] == 'm' or ARGV[at] == 'n' then
    redis.call('INCRBY', KEYS[4 + i], ARGV[at + 1])
    redis.call('PEXPIREAT', KEYS[4 + i], tonumber(ARGV[at + 4]) + 960000)
  else
    redis.call('HINCRBY', KEYS[4 + i], 'used', ARGV[at + 1])
    redis.call('HINCRBY', KEYS[4 + i], 'held', ARGV[at + 1])
  end
end
redis.call('HSET', KEYS[3], 'id', ARGV[2], 'rq', ARGV[3], 'at', now, 'ex', expires, 'inc', joined, 'body', ARGV[5])
redis.call('ZADD', KEYS[4], expires, KEYS[3])
return reply
