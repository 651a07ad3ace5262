-- What the scripts share; ARGV[1] begins the names of all keys and channels.
local P = ARGV[1]
local call = redis.call

-- In a cluster: while our slot moves to another node, what is not here may be there. This name is
-- nowhere, so then the script ends, before it has changed anything.
call('EXISTS', P .. 'none')

local function now_ms()
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A number as text, without an exponent.
local function whole(number)
  return string.format('%.0f', number)
end

-- Tells a room something under the number `seq`, and the number of what it was told before.
local function tell(room, seq, kind, body)
  local last = call('HGET', P .. 'last', room) or '0'
  if call('EXISTS', P .. 'members:' .. room) == 1 then
    call('HSET', P .. 'last', room, whole(seq))
  end
  call('PUBLISH', P .. 'room:' .. room, whole(seq) .. ' ' .. last .. ' ' .. kind .. ' ' .. body)
end

-- A user is on one node less in a room; on the last one, it is told.
local function leave(room, user)
  local members = P .. 'members:' .. room
  if call('HINCRBY', members, user, -1) > 0 then return end
  call('HDEL', members, user)
  tell(room, call('INCR', P .. 'seq'), 'l', user)
  if call('EXISTS', members) == 0 then call('HDEL', P .. 'last', room) end
end

-- Whether the lease of a node runs.
local function is_known(node)
  local ends = call('ZSCORE', P .. 'nodes', node)
  return ends and tonumber(ends) >= now_ms()
end
