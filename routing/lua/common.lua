-- What every ACD script begins with: its keys, its clock, and how tickets and agents move.
--
-- KEYS[1..6]: tickets, agents, leases, fence, mail, nodes; then four keys for each queue named in
-- request.queues: waiting, ready, staff, figures. All share the tenant's hash tag.
-- ARGV[1]: the calling node; ARGV[2]: the request as JSON.
--
-- tickets, agents  hashes of JSON records; lists in them are text between commas, ",a,b,"
-- leases           tickets being offered, by the ms at which their reservation ends
-- fence            the last fence given
-- mail             offers made for calls of another node, until that node takes them
-- nodes            living nodes, by the ms until which they count as such
-- waiting          members "<arrival>:<ticket>" of equal score sort by arrival
-- ready            agents by the microsecond since which they are idle. Entries of an agent who was
--                  reserved through another queue stay behind and are dropped when met.
-- staff            agents signed in who serve the queue
-- figures          what the estimate of the wait needs

local TICKETS, AGENTS, LEASES = KEYS[1], KEYS[2], KEYS[3]
local FENCE, MAIL, NODES = KEYS[4], KEYS[5], KEYS[6]
local GLOBAL_KEYS, KEYS_PER_QUEUE = 6, 4
local MAX_PRIORITY, RETURNED_SCORE = 254, -1
local SCAN_LIMIT, FIRST_STEP, SCAN_STEP = 2000, 3, 50

local here = ARGV[1]
local request = cjson.decode(ARGV[2])
local clock = redis.call('TIME')
local now_us = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local now_ms = math.floor(now_us / 1000)

local queues = {}
for index, name in ipairs(request.queues) do
  local first = GLOBAL_KEYS + (index - 1) * KEYS_PER_QUEUE
  queues[name] = {
    waiting = KEYS[first + 1], ready = KEYS[first + 2],
    staff = KEYS[first + 3], figures = KEYS[first + 4],
  }
end

local offers = {} -- for calls of the calling node, as JSON

-- Microseconds as text: JSON and Lua would print them as 1.7e+15.
local function us_text(us)
  return string.format('%016.0f', us)
end

local function each(list)
  return string.gmatch(list, '[^,]+')
end

local function has_all(list, wanted)
  for item in each(wanted) do
    if not string.find(list, ',' .. item .. ',', 1, true) then return false end
  end
  return true
end

local function load(key, id)
  local text = redis.call('HGET', key, id)
  return text and cjson.decode(text) or nil
end

local function save(key, record)
  redis.call('HSET', key, record.id, cjson.encode(record))
end

local function waiting_member(ticket)
  return ticket.arrival .. ':' .. ticket.id
end

-- A returned call is at the head, before every priority.
local function waiting_score(ticket)
  return ticket.returned and RETURNED_SCORE or MAX_PRIORITY - ticket.priority
end

local function leave_ready(agent)
  for name in each(agent.queues) do
    if queues[name] then redis.call('ZREM', queues[name].ready, agent.id) end
  end
end

local function enter_ready(agent)
  for name in each(agent.queues) do
    if queues[name] then redis.call('ZADD', queues[name].ready, agent.since, agent.id) end
  end
end

local function offer_of(ticket, agent)
  return cjson.encode({
    tenant = request.tenant, ticket = ticket.id, call = ticket.call, queue = ticket.queue, node = ticket.node,
    agent = agent.id, agent_node = agent.node, agent_queues = agent.queues,
    fence = ticket.fence, lease_ms = ticket.lease_ms,
    waited_ms = math.max(0, math.floor((now_us - tonumber(ticket.arrival)) / 1000)),
  })
end

-- Hand the offer to the node of the call. Published messages can be lost, mail cannot.
local function deliver(ticket, agent)
  local offer = offer_of(ticket, agent)
  if ticket.node == here then
    table.insert(offers, offer)
  else
    redis.call('HSET', MAIL, ticket.id, offer)
    redis.call('PUBLISH', request.channel .. ticket.node, offer)
  end
end

local function reserve(ticket, agent)
  redis.call('SETNX', FENCE, us_text(now_us)) -- an emptied store repeats no fence
  ticket.fence = string.format('%.0f', redis.call('INCR', FENCE))
  ticket.agent = agent.id
  agent.state, agent.fence, agent.ticket = 'reserved', ticket.fence, ticket.id
  redis.call('ZREM', queues[ticket.queue].waiting, waiting_member(ticket))
  leave_ready(agent)
  save(TICKETS, ticket)
  save(AGENTS, agent)
  redis.call('ZADD', LEASES, now_ms + ticket.lease_ms, ticket.id)
  deliver(ticket, agent)
end

local function forget_ticket(ticket)
  redis.call('HDEL', TICKETS, ticket.id)
  redis.call('HDEL', MAIL, ticket.id)
  redis.call('ZREM', LEASES, ticket.id)
  local queue = queues[ticket.queue]
  if queue then redis.call('ZREM', queue.waiting, waiting_member(ticket)) end
end

local function forget_agent(agent)
  leave_ready(agent)
  for name in each(agent.queues) do
    if queues[name] then redis.call('SREM', queues[name].staff, agent.id) end
  end
  redis.call('HDEL', AGENTS, agent.id)
end

local function wait_again(ticket)
  ticket.returned, ticket.agent, ticket.fence = true, nil, nil
  redis.call('ZREM', LEASES, ticket.id)
  redis.call('HDEL', MAIL, ticket.id)
  save(TICKETS, ticket)
  local queue = queues[ticket.queue]
  if queue then redis.call('ZADD', queue.waiting, RETURNED_SCORE, waiting_member(ticket)) end
end

-- What the agent asked for while reserved comes before what the end of the offer suggests.
local function release(agent, suggested)
  agent.state = agent.wish or suggested
  agent.wish, agent.ticket, agent.fence = nil, nil, nil
  if agent.state == 'ready' then enter_ready(agent) else leave_ready(agent) end
  save(AGENTS, agent)
end

local function reserved_agent(ticket)
  local agent = ticket.agent and load(AGENTS, ticket.agent)
  if agent and agent.state == 'reserved' and agent.fence == ticket.fence then return agent end
  return nil
end

-- The longest idle agent of the ticket's queue with all required skills.
local function agent_for(ticket)
  local queue = queues[ticket.queue]
  if not queue then return nil end
  local from, step = 0, FIRST_STEP -- mostly the first fits
  while from < SCAN_LIMIT do
    local found = redis.call('ZRANGE', queue.ready, from, from + step - 1, 'WITHSCORES')
    if #found == 0 then return nil end
    step = SCAN_STEP
    for index = 1, #found, 2 do
      local agent = load(AGENTS, found[index])
      if not agent or agent.state ~= 'ready' or tonumber(agent.since) ~= tonumber(found[index + 1]) then
        redis.call('ZREM', queue.ready, found[index])
      elseif has_all(agent.skills, ticket.skills) then
        return agent
      else
        from = from + 1
      end
    end
  end
  return nil
end

-- The first call of one queue that the agent's skills allow, and its score.
local function first_call(queue, agent)
  local from, step = 0, FIRST_STEP -- mostly the first fits
  while from < SCAN_LIMIT do
    local found = redis.call('ZRANGE', queue.waiting, from, from + step - 1, 'WITHSCORES')
    if #found == 0 then return nil end
    step = SCAN_STEP
    for index = 1, #found, 2 do
      local ticket = load(TICKETS, string.sub(found[index], 18))
      if not ticket or ticket.fence then
        redis.call('ZREM', queue.waiting, found[index])
      elseif has_all(agent.skills, ticket.skills) then
        return ticket, tonumber(found[index + 1])
      else
        from = from + 1
      end
    end
  end
  return nil
end

-- The call that comes first in all the queues of the agent.
local function call_for(agent)
  local best, best_score
  for name in each(agent.queues) do
    if queues[name] then
      local ticket, score = first_call(queues[name], agent)
      if ticket and (not best or score < best_score
          or (score == best_score and waiting_member(ticket) < waiting_member(best))) then
        best, best_score = ticket, score
      end
    end
  end
  return best
end

local function match_ticket(ticket)
  local agent = agent_for(ticket)
  if agent then reserve(ticket, agent) end
end

local function match_agent(agent)
  if agent.state ~= 'ready' then return end
  local ticket = call_for(agent)
  if ticket then reserve(ticket, agent) end
end

local function enter_staff(agent)
  for name in each(agent.queues) do
    if queues[name] then redis.call('SADD', queues[name].staff, agent.id) end
  end
end

local function all(key)
  local records = {}
  for _, text in ipairs(redis.call('HVALS', key)) do table.insert(records, cjson.decode(text)) end
  return records
end

-- What the estimate of the wait is made of; forgotten when a queue rests for an hour.
local FIGURES_LIFE_S, NEW_SHARE = 3600, 0.1

-- The moving average of the time from taking a call to being ready for the next.
local function note_handling(agent)
  local queue = agent.busy_queue and queues[agent.busy_queue]
  if not queue then return end
  local handled_ms = (now_us - tonumber(agent.busy_since)) / 1000
  local known = redis.call('HGET', queue.figures, 'handling_ms')
  local average = known and (1 - NEW_SHARE) * tonumber(known) + NEW_SHARE * handled_ms or handled_ms
  redis.call('HSET', queue.figures, 'handling_ms', string.format('%.0f', average))
  redis.call('EXPIRE', queue.figures, FIGURES_LIFE_S)
end

-- Remove all that a dead node owned, and let what it held be matched again.
local function forget_node(node)
  local tickets, agents = {}, {}
  for _, ticket in ipairs(all(TICKETS)) do
    if ticket.node == node then
      local agent = reserved_agent(ticket)
      forget_ticket(ticket)
      if agent then
        release(agent, 'ready')
        table.insert(agents, agent.id)
      end
    end
  end
  for _, agent in ipairs(all(AGENTS)) do
    if agent.node == node then
      local ticket = agent.state == 'reserved' and load(TICKETS, agent.ticket) or nil
      forget_agent(agent)
      if ticket and ticket.fence == agent.fence then
        wait_again(ticket)
        table.insert(tickets, ticket)
      end
    end
  end
  for _, ticket in ipairs(tickets) do match_ticket(ticket) end
  for _, id in ipairs(agents) do
    local agent = load(AGENTS, id)
    if agent then match_agent(agent) end
  end
end
