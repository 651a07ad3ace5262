-- node, its lease in milliseconds. Returns '1' if its lease ran until now, or '0', and then the
-- nodes whose lease ran out.
local node = ARGV[2]
local known = is_known(node) and '1' or '0'
local now = now_ms()
call('ZADD', P .. 'nodes', whole(now + tonumber(ARGV[3])), node)
local answer = { known }
for _, dead in ipairs(call('ZRANGEBYSCORE', P .. 'nodes', '-inf', '(' .. whole(now))) do
  answer[#answer + 1] = dead
end
return answer
