-- Settles the authorizations in the file NB_FILE, each once; then stops by itself with the load's time.
local key, lines, count = os.getenv("NB_KEY"), {}, 0
settled, failed = 0, 0
local threads = {}
function setup(thread) table.insert(threads, thread) end
function init()
  for line in io.lines(os.getenv("NB_FILE")) do lines[#lines + 1] = line end
end
function request()
  count = count + 1
  local token = lines[count]
  if not token then wrk.thread:stop() token = lines[1] end
  return wrk.format("POST", "/v1/settle", {
    ["Authorization"] = "Bearer " .. key, ["Idempotency-Key"] = "s" .. count, ["Content-Type"] = "application/json",
  }, '{"authorization":"' .. token .. '","usage":{"input_tokens":980,"output_tokens":290}}')
end
function response(status, headers, body)
  if status == 200 then settled = settled + 1 else failed = failed + 1 end
end
function done()
  for _, thread in ipairs(threads) do
    print("said settled " .. thread:get("settled"))
    print("said failed " .. thread:get("failed"))
  end
end
