-- count, then for each room: its name, and the number after which its messages are wanted, or ''.
-- Returns for each: the number of now, how many members there are, these, and then messages.
local count = ARGV[2]
local seq = call('GET', P .. 'seq') or '0'
local rooms = {}
for i = 3, #ARGV, 2 do
  local room, after = ARGV[i], ARGV[i + 1]
  local users = call('HKEYS', P .. 'members:' .. room)
  local answer = { seq, tostring(#users) }
  for _, user in ipairs(users) do answer[#answer + 1] = user end
  if after ~= '' then
    -- The numbers began anew: Redis has lost its data.
    if tonumber(after) > tonumber(seq) then after = '0' end
    local key = P .. 'messages:' .. room
    for _, entry in ipairs(call('XRANGE', key, '(' .. after .. '-0', '+', 'COUNT', count)) do
      answer[#answer + 1] = entry[2][2]
    end
  end
  rooms[#rooms + 1] = answer
end
return rooms
