-- Forget an agent; a call that was being offered to the agent returns to the head of its queue.
-- Returns {1, '', offers}.

local agent = load(AGENTS, request.agent)
if not agent or agent.node ~= here then return {1, '', offers} end
local ticket = agent.state == 'reserved' and load(TICKETS, agent.ticket) or nil
forget_agent(agent)
if ticket and ticket.fence == agent.fence then
  wait_again(ticket)
  match_ticket(ticket)
end
return {1, '', offers}
