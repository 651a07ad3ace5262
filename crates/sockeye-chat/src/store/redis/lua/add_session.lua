-- node, session, user, rooms by lines. A session of a node without a lease would never end.
local node, session = ARGV[2], ARGV[3]
if not is_known(node) then return redis.error_reply('FORGOTTEN the lease of this node ran out') end
call('HSET', P .. 'session:' .. session, 'username', ARGV[4], 'rooms', ARGV[5])
call('SADD', P .. 'node:' .. node .. ':sessions', session)
return 1
