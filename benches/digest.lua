-- POST /digest with 32 random bytes, as the ots client sends it. The requests are made beforehand, so that making them
-- does not take the processor from the server.
math.randomseed(os.time())
local headers = {
  ["Content-Type"] = "application/x-www-form-urlencoded",
  ["Accept"] = "application/vnd.opentimestamps.v1",
}
local requests, next = {}, 0
init = function()
  for i = 1, 20000 do
    local digest = {}
    for byte = 1, 32 do digest[byte] = string.char(math.random(0, 255)) end
    requests[i] = wrk.format("POST", "/digest", headers, table.concat(digest))
  end
end
request = function()
  next = next % #requests + 1
  return requests[next]
end
