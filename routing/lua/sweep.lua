-- The node lives: renew its mark, give back what dead nodes and ended leases hold, fetch mail.
-- Returns {KNOWN or UNKNOWN, '', offers}; UNKNOWN when this node's state is not in the store.

local UNKNOWN, KNOWN = 0, 1
local EXPIRED_AT_ONCE = 200

local known = redis.call('ZSCORE', NODES, here) and KNOWN or UNKNOWN
redis.call('ZADD', NODES, now_ms + request.life_ms, here)

for _, node in ipairs(redis.call('ZRANGEBYSCORE', NODES, '-inf', now_ms)) do
  if node ~= here then
    redis.call('ZREM', NODES, node)
    forget_node(node)
  end
end

local ended = redis.call('ZRANGEBYSCORE', LEASES, '-inf', now_ms, 'LIMIT', 0, EXPIRED_AT_ONCE)
for _, id in ipairs(ended) do
  local ticket = load(TICKETS, id)
  if not ticket then
    redis.call('ZREM', LEASES, id)
  else
    local agent = reserved_agent(ticket)
    wait_again(ticket)
    if agent then release(agent, 'not_ready') end
    match_ticket(ticket)
    if agent then match_agent(load(AGENTS, agent.id)) end
  end
end

local mail = redis.call('HGETALL', MAIL)
for index = 1, #mail, 2 do
  if cjson.decode(mail[index + 1]).node == here then
    redis.call('HDEL', MAIL, mail[index])
    table.insert(offers, mail[index + 1])
  end
end
return {known, '', offers}
