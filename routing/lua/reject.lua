-- Give a reservation back: the call to the head of its queue, the agent to the state asked for.
-- Returns {1, '', offers}, or {0} when the reservation is no longer valid.

local ticket = load(TICKETS, request.ticket)
if not ticket or ticket.fence ~= request.fence then return {0} end
local agent = reserved_agent(ticket)
wait_again(ticket)
if agent then
  if request.agent_state then agent.wish = request.agent_state end
  agent.since = us_text(now_us) -- behind those who were idle meanwhile
  release(agent, 'not_ready')
end
match_ticket(ticket)
if agent then match_agent(load(AGENTS, agent.id)) end
return {1, '', offers}
