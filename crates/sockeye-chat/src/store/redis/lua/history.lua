-- room, count. Returns its last messages, the newest first.
local messages = {}
for _, entry in ipairs(call('XREVRANGE', P .. 'messages:' .. ARGV[2], '+', '-', 'COUNT', ARGV[3])) do
  messages[#messages + 1] = entry[2][2]
end
return messages
