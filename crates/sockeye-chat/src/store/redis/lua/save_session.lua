-- node, session, rooms by lines, how long it can be restored in milliseconds or '' while its
-- connection lives. One that was restored meanwhile stays gone.
local node, session, rooms, ends = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local key, sessions = P .. 'session:' .. session, P .. 'node:' .. node .. ':sessions'
if ends ~= '' then call('SREM', sessions, session) end
if call('EXISTS', key) == 0 then return 0 end
call('HSET', key, 'rooms', rooms)
if ends == '' then
  call('PERSIST', key)
  call('SADD', sessions, session)
elseif tonumber(ends) > 0 then
  call('PEXPIRE', key, ends)
else
  call('DEL', key)
end
return 1
