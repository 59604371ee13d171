-- Let a call wait, or reserve an agent at once.
-- Returns {DONE, {position, arrival}, offers}, {FULL} or {NO_AGENTS}.

local DONE, FULL, NO_AGENTS = 1, 2, 3

local function place_of(ticket)
  local rank = redis.call('ZRANK', queues[ticket.queue].waiting, waiting_member(ticket))
  return {rank and rank + 1 or 0, ticket.arrival}
end

local ticket = load(TICKETS, request.ticket)
if ticket then -- asked before, the reply was lost
  return {DONE, place_of(ticket), offers}
end

local queue = queues[request.queue]
if request.refuse_without_agents and redis.call('SCARD', queue.staff) == 0 then
  return {NO_AGENTS}
end

ticket = {
  id = request.ticket, call = request.call, queue = request.queue, node = here,
  priority = request.priority, skills = request.skills, lease_ms = request.lease_ms,
  arrival = us_text(now_us),
}
local agent = agent_for(ticket)
if agent then
  reserve(ticket, agent)
elseif request.max_waiting > 0 and redis.call('ZCARD', queue.waiting) >= request.max_waiting then
  return {FULL}
else
  save(TICKETS, ticket)
  redis.call('ZADD', queue.waiting, waiting_score(ticket), waiting_member(ticket))
end
return {DONE, place_of(ticket), offers}
