-- what is limited for whom, microseconds between two, how many at once. Returns 0, or how many
-- microseconds to wait. The key has the time at which everything would be allowed again (GCRA).
local key, between, burst = P .. 'limit:' .. ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local full = math.max(tonumber(call('GET', key) or '0'), now)
local wait = full - now - (burst - 1) * between
if wait > 0 then return math.ceil(wait) end
full = full + between
call('SET', key, whole(full), 'PX', math.ceil((full - now) / 1000))
return 0
