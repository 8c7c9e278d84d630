-- One request of a client: KEYS[1] holds when its allowance is whole, "MICROSECONDS PART", where PART is of ARGV[1] parts of a
-- microsecond. ARGV: requests (at least 1), microseconds of the window. All numbers are whole and below 2^53, as gcra.rs explains.
-- Answers whether it passes, the time, and when the allowance is whole now.
local requests, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local latest = now + window
local micros, part = now, 0
local kept = redis.call('GET', KEYS[1])
if kept then
    local first, second = string.match(kept, '^(%d+) (%d+)$')
    first, second = tonumber(first), tonumber(second)
    if first and first >= now then
        micros, part = first, math.min(second, requests - 1)
    end
    if micros >= latest then
        micros, part = latest, 0
    end
end
local sum = part + window % requests
local next_micros = micros + math.floor(window / requests) + math.floor(sum / requests)
local next_part = sum % requests
local allowed = 0
if next_micros < latest or (next_micros == latest and next_part == 0) then
    allowed, micros, part = 1, next_micros, next_part
    local value = string.format('%.0f %.0f', micros, part)
    redis.call('SET', KEYS[1], value, 'PX', string.format('%.0f', math.floor((micros - now) / 1000) + 1))
end
return { allowed, string.format('%.0f', now), string.format('%.0f', micros), part }
