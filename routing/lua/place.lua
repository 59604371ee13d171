-- Where a ticket stands. Returns {position, estimate in seconds or -1}; position 0: does not wait.
--
-- Estimate = position x average handling time / agents who work (ready, reserved, busy).

local COUNT_LIFE_MS = 1000

local function working_agents(queue)
  local known = redis.call('HMGET', queue.figures, 'working', 'counted_ms')
  if known[1] and now_ms - tonumber(known[2]) < COUNT_LIFE_MS then return tonumber(known[1]) end
  local working = 0
  for _, id in ipairs(redis.call('SMEMBERS', queue.staff)) do
    local agent = load(AGENTS, id)
    if agent and agent.state ~= 'not_ready' then working = working + 1 end
  end
  redis.call('HSET', queue.figures, 'working', working, 'counted_ms', now_ms)
  redis.call('EXPIRE', queue.figures, FIGURES_LIFE_S)
  return working
end

local ticket = load(TICKETS, request.ticket)
if not ticket or ticket.fence then return {0, -1} end
local queue = queues[ticket.queue]
local rank = redis.call('ZRANK', queue.waiting, waiting_member(ticket))
if not rank then return {0, -1} end
local handling_ms = redis.call('HGET', queue.figures, 'handling_ms')
local working = handling_ms and working_agents(queue) or 0
if working == 0 then return {rank + 1, -1} end
return {rank + 1, math.ceil((rank + 1) * tonumber(handling_ms) / working / 1000)}
