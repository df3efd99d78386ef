-- Chats of NB_KIND by the tenant of NB_KEY for the customer "bench"; counts answers that were no success.
local headers = { ["Authorization"] = "Bearer sk-bench", ["Content-Type"] = "application/json" }
local key = os.getenv("NB_KEY")
if key ~= "" then
  headers["x-noburn-key"] = key
  headers["x-noburn-customer"] = "bench"
end
failed = 0
local threads = {}
function setup(thread) table.insert(threads, thread) end
local body = '{"model":"gpt-4o-mini","max_completion_tokens":50,"messages":[{"role":"user","content":"'
  .. string.rep("Write a haiku about budgets, please. ", 20) .. '"}]}'
function request() return wrk.format("POST", os.getenv("NB_PATH"), headers, body) end
function response(status) if status ~= 200 then failed = failed + 1 end end
function done()
  for _, thread in ipairs(threads) do print("said failed " .. thread:get("failed")) end
end
