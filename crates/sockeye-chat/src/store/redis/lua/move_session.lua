-- from, to. Returns the rooms of `from` by lines, which are those of `to` from now on too; nothing
-- if there is no such session of the same user.
local from, to = P .. 'session:' .. ARGV[2], P .. 'session:' .. ARGV[3]
local user = call('HGET', to, 'username')
if from == to or not user or call('HGET', from, 'username') ~= user then return false end
local rooms = call('HGET', from, 'rooms')
call('DEL', from)
local all = call('HGET', to, 'rooms')
local has = {}
for room in string.gmatch(all, '[^\n]+') do has[room] = true end
for room in string.gmatch(rooms, '[^\n]+') do
  if not has[room] then all = all == '' and room or all .. '\n' .. room end
end
call('HSET', to, 'rooms', all)
return rooms
