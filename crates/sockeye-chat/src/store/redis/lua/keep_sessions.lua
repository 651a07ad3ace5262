-- node, sessions. They live: what was said of them when the node's lease ran out is taken back.
for i = 3, #ARGV do
  local key = P .. 'session:' .. ARGV[i]
  if call('EXISTS', key) == 1 then
    call('PERSIST', key)
    call('SADD', P .. 'node:' .. ARGV[2] .. ':sessions', ARGV[i])
  end
end
return 1
