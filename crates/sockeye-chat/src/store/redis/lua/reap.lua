-- node, how long its sessions can be restored in milliseconds, '1' if it ends by itself. What it
-- had goes, a part at a time; returns 1 while there is more.
local node, restore, is_willing = ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1'
if not is_willing and is_known(node) then return 0 end
local here, sessions = P .. 'node:' .. node .. ':here', P .. 'node:' .. node .. ':sessions'
local entries = call('SPOP', here, 200)
for _, entry in ipairs(entries) do
  local room, user = string.match(entry, '^(.*)\n(.*)$')
  leave(room, user)
end
local ended = call('SPOP', sessions, 200)
for _, session in ipairs(ended) do
  local key = P .. 'session:' .. session
  if restore > 0 then call('PEXPIRE', key, restore) else call('DEL', key) end
end
if #entries + #ended > 0 then return 1 end
call('ZREM', P .. 'nodes', node)
return 0
