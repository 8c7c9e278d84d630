-- POST /digest with 32 random bytes, as the ots client sends it.
math.randomseed(os.time())
local headers = {
  ["Content-Type"] = "application/x-www-form-urlencoded",
  ["Accept"] = "application/vnd.opentimestamps.v1",
}
local byte = function() return string.char(math.random(0, 255)) end
request = function()
  local digest = {}
  for i = 1, 32 do digest[i] = byte() end
  return wrk.format("POST", "/digest", headers, table.concat(digest))
end
