-- The reserved agent took the call.
-- Returns {1} when the reservation held (also when asked again), else {0}.

local agent = load(AGENTS, request.agent)
if not agent or agent.fence ~= request.fence then return {0} end
if agent.state == 'busy' then return {1} end -- asked before, the reply was lost
local ticket = load(TICKETS, request.ticket)
if agent.state ~= 'reserved' or not ticket or ticket.fence ~= request.fence then return {0} end

forget_ticket(ticket)
agent.state, agent.ticket, agent.wish = 'busy', nil, nil
agent.busy_since, agent.busy_queue, agent.busy_node = us_text(now_us), ticket.queue, ticket.node
save(AGENTS, agent)
return {1}
