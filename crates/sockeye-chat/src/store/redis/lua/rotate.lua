-- sign-in, the old token's hash, the new one's, how long it lasts in seconds. Returns whose it is;
-- nothing if there is none, or the token is an older one, which ends it.
local key = P .. 'sign-in:' .. ARGV[2]
local row = call('HMGET', key, 'username', 'hash')
if not row[1] then return false end
if row[2] ~= ARGV[3] then
  call('DEL', key)
  return false
end
call('HSET', key, 'hash', ARGV[4])
call('EXPIRE', key, ARGV[5])
return row[1]
