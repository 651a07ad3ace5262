-- room, count, bytes. Returns its last messages, the newest first: as many as have so many bytes
-- together, and one in any case.
local key, count, bytes = P .. 'messages:' .. ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local messages, before = {}, '+'
while count > 0 do
  -- A part at a time: they may be long.
  local wanted = math.min(count, 50)
  local part = call('XREVRANGE', key, before, '-', 'COUNT', wanted)
  for _, entry in ipairs(part) do
    local json = entry[2][2]
    bytes = bytes - #json
    if bytes < 0 and #messages > 0 then return messages end
    messages[#messages + 1] = json
    before = '(' .. entry[1]
  end
  if #part < wanted then return messages end
  count = count - wanted
end
return messages
