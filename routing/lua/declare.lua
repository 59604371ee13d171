-- An agent is ready or not ready from now on; registers the agent if need be.
-- Returns {1, since, offers}, or {0} when the agent is signed in at another node.

local agent = load(AGENTS, request.agent)
if agent and agent.node ~= here then return {0} end
if agent and agent.state == 'reserved' then
  agent.wish = request.state
  save(AGENTS, agent)
  return {1, agent.since, offers}
end
if agent and agent.state == 'busy' then note_handling(agent) end

local same_profile = agent and agent.queues == request.agent_queues
  and agent.skills == request.skills
if same_profile and agent.state == request.state then return {1, agent.since, offers} end
if same_profile then leave_ready(agent) elseif agent then forget_agent(agent) end
agent = {
  id = request.agent, node = here, queues = request.agent_queues, skills = request.skills,
  state = request.state, since = us_text(now_us),
}
save(AGENTS, agent)
if not same_profile then enter_staff(agent) end
if agent.state == 'ready' then
  enter_ready(agent)
  match_agent(agent)
end
return {1, agent.since, offers}
