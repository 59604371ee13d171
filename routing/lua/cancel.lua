-- Take a call out; the agent reserved for it is ready again, with the old place among the idle.
-- Returns {GONE}, {DONE, '', offers}, or {NEEDS_QUEUES, queues} when the agent of an offer that the
-- caller has not seen yet serves queues whose keys were not given.

local GONE, DONE, NEEDS_QUEUES = 0, 1, 2

local ticket = load(TICKETS, request.ticket)
if not ticket then return {GONE} end
local agent = reserved_agent(ticket)
if agent then
  for name in each(agent.queues) do
    if not queues[name] then return {NEEDS_QUEUES, agent.queues} end
  end
end
forget_ticket(ticket)
if agent then
  release(agent, 'ready')
  match_agent(agent)
end
return {DONE, '', offers}
