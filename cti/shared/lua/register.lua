-- REGISTERs and look-ups of users of one tenant (RFC 3261 10.3, steps 6 to 8), as one atomic step.
--
-- KEYS[1]  name of the store's present life: it is new when the store has lost what it knew
-- KEYS[2…] one hash a user: field -> record, one for each way to a phone
-- ARGV     name for a new life, now (unix s), most ways of a user; then for each user: Call-ID,
--          CSeq, mode, place, number of changes, and for each change: field, contact, expiry
--          (unix s, 0 removes), record
-- mode     "change", "remove_all", "restore" which adds what is not there, or "drop" which removes
--          the fields whose flow (in the place of a contact) is still the one given
-- field    "identity place": what tells the phone, and the node or proxy it registered through
-- record   "expiry at cseq call-id contact flow", then what only readers of the store know
-- Returns the name of the life, then for each user a list: one "1" or "0" for each change, whether
-- it made any difference but for the time, then fields and records of all ways left. The list is
-- empty when the CSeq is out of order.

local now, most = tonumber(ARGV[2]), tonumber(ARGV[3])
local HEAD = '^(%d+) (%d+) (%d+) (%S+) (%S+) (%S+)(.*)$'
local at = 4

redis.call('SETNX', KEYS[1], ARGV[1])
local reply = {redis.call('GET', KEYS[1])}

local function read(key)
  local ways, expired = {}, {}
  local stored = redis.call('HGETALL', key)
  for i = 1, #stored, 2 do
    local field, text = stored[i], stored[i + 1]
    local expires, _, cseq, call_id, contact, flow, rest = string.match(text, HEAD)
    expires = tonumber(expires)
    if expires and expires > now then
      ways[field] = {
        text = text, expires = expires, cseq = tonumber(cseq), call_id = call_id,
        contact = contact, flow = flow, rest = rest,
      }
    else
      expired[#expired + 1] = field
    end
  end
  if #expired > 0 then redis.call('HDEL', key, unpack(expired)) end
  return ways
end

local function is_later(way, user)
  return way.call_id == user.call_id and way.cseq >= user.cseq
end

local function is_here(field, user)
  return string.match(field, ' (%S+)$') == user.place
end

-- A contact is removed where it registered, and wherever the same registration went before.
local function removed_by(field, way, change, user)
  if way.contact ~= change.contact then return false end
  return is_here(field, user) or (way.call_id == user.call_id and way.cseq < user.cseq)
end

local function is_out_of_order(ways, user)
  if user.mode == 'remove_all' then
    for _, way in pairs(ways) do
      if is_later(way, user) then return true end
    end
  elseif user.mode == 'change' then
    for _, change in ipairs(user.changes) do
      for field, way in pairs(ways) do
        local same = field == change.field or (way.contact == change.contact and is_here(field, user))
        if same and is_later(way, user) then return true end
      end
    end
  end
  return false
end

local function remove(key, ways, field)
  ways[field] = nil
  redis.call('HDEL', key, field)
end

local function apply(key, ways, user, change)
  if user.mode == 'drop' then
    local way = ways[change.field]
    if not way or way.flow ~= change.contact then return '0' end
    remove(key, ways, change.field)
    return '1'
  end
  if change.expires <= now then
    local gone = {}
    for field, way in pairs(ways) do
      if removed_by(field, way, change, user) then gone[#gone + 1] = field end
    end
    for _, field in ipairs(gone) do remove(key, ways, field) end
    return #gone > 0 and '1' or '0'
  end
  local before = ways[change.field]
  if before and user.mode == 'restore' then return '0' end
  local _, _, cseq, call_id, contact, flow, rest = string.match(change.text, HEAD)
  ways[change.field] = {
    text = change.text, expires = change.expires, cseq = tonumber(cseq), call_id = call_id,
    contact = contact, flow = flow, rest = rest,
  }
  redis.call('HSET', key, change.field, change.text)
  local same = before and before.contact == contact and before.flow == flow
    and before.rest == rest
  return same and '0' or '1'
end

-- A phone that changes its address leaves ways behind; those that end first make room.
local function tidy(key, ways)
  local fields = {}
  for field in pairs(ways) do fields[#fields + 1] = field end
  if #fields == 0 then return end
  table.sort(fields, function(a, b) return ways[a].expires > ways[b].expires end)
  for i = most + 1, #fields do remove(key, ways, fields[i]) end
  redis.call('EXPIREAT', key, ways[fields[1]].expires)
end

local function serve(key, user)
  local ways = read(key)
  if is_out_of_order(ways, user) then return {} end
  local flags = {}
  if user.mode == 'remove_all' then
    redis.call('DEL', key)
    ways = {}
  else
    for i, change in ipairs(user.changes) do flags[i] = apply(key, ways, user, change) end
    if #flags > 0 then tidy(key, ways) end
  end
  local answer = {table.concat(flags)}
  for field, way in pairs(ways) do
    answer[#answer + 1] = field
    answer[#answer + 1] = way.text
  end
  return answer
end

for i = 2, #KEYS do
  local user = {
    call_id = ARGV[at], cseq = tonumber(ARGV[at + 1]), mode = ARGV[at + 2], place = ARGV[at + 3],
    changes = {},
  }
  local count = tonumber(ARGV[at + 4])
  at = at + 5
  for j = 1, count do
    user.changes[j] = {
      field = ARGV[at], contact = ARGV[at + 1], expires = tonumber(ARGV[at + 2]),
      text = ARGV[at + 3],
    }
    at = at + 4
  end
  reply[i] = serve(KEYS[i], user)
end
return reply
