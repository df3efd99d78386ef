-- Pre-flights for NB_CUSTOMERS customers (drawn at random; NB_FRESH=1: a new one each time; NB_SEQUENCE=1: one after the
-- other from NB_MET on), with a pause of about NB_DELAY_MS on each connection. Every call has its own Idempotency-Key. Says how many were allowed and denied.
local key, delay_ms = os.getenv("NB_KEY"), tonumber(os.getenv("NB_DELAY_MS") or "0")
local customers, fresh = tonumber(os.getenv("NB_CUSTOMERS") or "1"), os.getenv("NB_FRESH") == "1"
local sequence, met = os.getenv("NB_SEQUENCE") == "1", tonumber(os.getenv("NB_MET") or "0")
local count, run = 0, os.getenv("NB_RUN") or tostring(os.time())
allowed, denied = 0, 0
local threads = {}
function setup(thread) table.insert(threads, thread) end
function init() math.randomseed(os.time()) end
if delay_ms > 0 then
  function delay() return math.random(0, 2 * delay_ms) end
end
function request()
  count = count + 1
  local customer = sequence and (met + count) or fresh and (run .. "-" .. count) or math.random(1, customers)
  return wrk.format("POST", "/v1/preflight", {
    ["Authorization"] = "Bearer " .. key, ["Idempotency-Key"] = run .. "-" .. count, ["Content-Type"] = "application/json",
  }, '{"provider":"openai","model":"gpt-4o-mini","input_tokens":1200,"max_output_tokens":500,"subject":{"customer":"c' ..
    customer .. '"},"ttl_seconds":900}')
end
function response(status, headers, body)
  if string.find(body, '"allow"', 1, true) then allowed = allowed + 1 else denied = denied + 1 end
end
function done()
  for _, thread in ipairs(threads) do
    print("said allowed " .. thread:get("allowed"))
    print("said denied " .. thread:get("denied"))
  end
end
