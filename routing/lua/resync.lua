-- Replace everything the store has of this node by what the node knows. Returns {1, '', offers}.
--
-- A reservation or call that another node holds of an agent of this node stays as it is.

redis.call('ZADD', NODES, now_ms + request.life_ms, here)

local held = {}
for _, agent in ipairs(all(AGENTS)) do
  local ticket = agent.state == 'reserved' and load(TICKETS, agent.ticket) or nil
  local elsewhere = (ticket and ticket.node ~= here)
    or (agent.state == 'busy' and agent.busy_node ~= here)
  if agent.node == here and elsewhere then held[agent.id] = true end
end

for _, ticket in ipairs(all(TICKETS)) do
  if ticket.node == here then
    local agent = reserved_agent(ticket)
    forget_ticket(ticket)
    if agent then release(agent, 'ready') end
  end
end
for _, agent in ipairs(all(AGENTS)) do
  if agent.node == here and not held[agent.id] then forget_agent(agent) end
end

for _, agent in ipairs(request.agents) do
  local there = load(AGENTS, agent.id)
  if not held[agent.id] and (not there or there.node == here) then
    agent.node, agent.busy_node = here, here
    save(AGENTS, agent)
    enter_staff(agent)
    if agent.state == 'ready' then enter_ready(agent) end
  end
end

for _, ticket in ipairs(request.tickets) do
  ticket.node = here
  local agent = ticket.agent and load(AGENTS, ticket.agent)
  local ours = agent and agent.state == 'reserved' and agent.fence == ticket.fence
  if ours or (agent and agent.state == 'ready') then -- it still rings
    agent.state, agent.fence, agent.ticket = 'reserved', ticket.fence, ticket.id
    leave_ready(agent)
    save(AGENTS, agent)
    save(TICKETS, ticket)
    redis.call('ZADD', LEASES, now_ms + ticket.lease_ms, ticket.id)
  else
    ticket.agent, ticket.fence = nil, nil
    save(TICKETS, ticket)
    redis.call('ZADD', queues[ticket.queue].waiting, waiting_score(ticket), waiting_member(ticket))
  end
end

local idle = {}
for _, agent in ipairs(all(AGENTS)) do
  if agent.state == 'ready' then table.insert(idle, agent) end
end
table.sort(idle, function(one, other) return one.since < other.since end)
for _, agent in ipairs(idle) do match_agent(agent) end
return {1, '', offers}
