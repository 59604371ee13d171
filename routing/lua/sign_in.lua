-- Register an agent as not ready.
-- Returns {1}, or {0} when the agent is signed in at another living node.

local agent = load(AGENTS, request.agent)
if agent and agent.node ~= here then
  local until_ms = redis.call('ZSCORE', NODES, agent.node)
  if until_ms and tonumber(until_ms) > now_ms then
    local in_call = agent.state == 'reserved' or agent.state == 'busy'
    if in_call or not request.take_over then return {0} end
    redis.call('PUBLISH', request.channel .. agent.node,
      cjson.encode({tenant = request.tenant, taken_over = agent.id}))
  end
end
if agent then forget_agent(agent) end
agent = {
  id = request.agent, node = here, queues = request.agent_queues, skills = request.skills,
  state = 'not_ready', since = us_text(now_us),
}
save(AGENTS, agent)
enter_staff(agent)
return {1}
