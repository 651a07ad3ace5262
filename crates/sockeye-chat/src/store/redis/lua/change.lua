-- node, then for each user who has come to a room or left it on this node: '+' or '-', room, user.
-- Returns for each the number of what the room was told last.
local node = ARGV[2]
if not is_known(node) then return redis.error_reply('FORGOTTEN the lease of this node ran out') end
local here = P .. 'node:' .. node .. ':here'
local told = {}
for i = 3, #ARGV, 3 do
  local room, user = ARGV[i + 1], ARGV[i + 2]
  local entry = room .. '\n' .. user
  if ARGV[i] == '+' then
    local is_new = call('SADD', here, entry) == 1
    if is_new and call('HINCRBY', P .. 'members:' .. room, user, 1) == 1 then
      tell(room, call('INCR', P .. 'seq'), 'j', user)
    end
  elseif call('SREM', here, entry) == 1 then
    leave(room, user)
  end
  told[#told + 1] = call('HGET', P .. 'last', room) or '0'
end
return told
