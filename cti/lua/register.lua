-- One REGISTER on the bindings of one user (RFC 3261 10.3, steps 6 to 8), as one atomic step.
--
-- KEYS[1]  hash of the user's bindings: contact key -> JSON
-- KEYS[2]  name of the store's present life: it is new when the store has lost what it knew
-- ARGV     name for a new life, now (unix s), Call-ID, CSeq, mode, most bindings of a user,
--          then for each contact: key, expiry (unix s, 0 removes), JSON
-- mode     "change", "remove_all", or "restore" which adds what is not there
-- Returns the name of the life, then keys and JSON of all bindings left; after the name one nil
-- when the CSeq is out of order.

local now = tonumber(ARGV[2])
local call_id, cseq = ARGV[3], tonumber(ARGV[4])
local mode, most = ARGV[5], tonumber(ARGV[6])

redis.call('SETNX', KEYS[2], ARGV[1])
local reply = {redis.call('GET', KEYS[2])}

local bindings = {}
local stored = redis.call('HGETALL', KEYS[1])
for i = 1, #stored, 2 do
  local binding = cjson.decode(stored[i + 1])
  if binding.expires > now then
    bindings[stored[i]] = binding
  else
    redis.call('HDEL', KEYS[1], stored[i])
  end
end

local function out_of_order(binding)
  return binding and binding.call_id == call_id and binding.cseq >= cseq
end

if mode == 'remove_all' then
  for _, binding in pairs(bindings) do
    if out_of_order(binding) then return {reply[1], false} end
  end
  redis.call('DEL', KEYS[1])
  return reply
end

if mode == 'change' then
  for i = 7, #ARGV, 3 do
    if out_of_order(bindings[ARGV[i]]) then return {reply[1], false} end
  end
end
for i = 7, #ARGV, 3 do
  local key, expires = ARGV[i], tonumber(ARGV[i + 1])
  if expires <= now then
    bindings[key] = nil
    redis.call('HDEL', KEYS[1], key)
  elseif mode == 'change' or not bindings[key] then
    bindings[key] = cjson.decode(ARGV[i + 2])
    redis.call('HSET', KEYS[1], key, ARGV[i + 2])
  end
end

-- A phone that changes its address leaves bindings behind; those that end first make room.
local keys = {}
for key in pairs(bindings) do keys[#keys + 1] = key end
table.sort(keys, function(a, b) return bindings[a].expires > bindings[b].expires end)
for i = most + 1, #keys do
  redis.call('HDEL', KEYS[1], keys[i])
end
if #keys > 0 then
  redis.call('EXPIREAT', KEYS[1], bindings[keys[1]].expires)
end
for _, each in ipairs(redis.call('HGETALL', KEYS[1])) do reply[#reply + 1] = each end
return reply
