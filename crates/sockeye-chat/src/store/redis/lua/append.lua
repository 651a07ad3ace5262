-- room, author, key or '', the message's JSON but for its beginning, how many a room keeps.
-- Returns the message's id.
local room, author, key, rest, max = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local sent = P .. 'sent:' .. author .. '\n' .. room .. '\n' .. key
if key ~= '' then
  local id = call('GET', sent)
  if id then return id end
end
local seq = call('INCR', P .. 'seq')
local json = '{"id":"' .. whole(seq) .. '","timestamp":' .. whole(now_ms()) .. ',' .. rest
call('XADD', P .. 'messages:' .. room, 'MAXLEN', '~', max, whole(seq) .. '-0', 'm', json)
-- Until the end of the next day, whenever that is.
if key ~= '' then call('SET', sent, whole(seq), 'EX', 172800) end
tell(room, seq, 'm', json)
return whole(seq)
