-- One REGISTER on the bindings of one user (RFC 3261 10.3, steps 6 to 8), as one atomic step.
--
-- KEYS[1]  hash of the user's bindings: contact key -> JSON
-- ARGV     now (unix s), Call-ID, CSeq, "1" to remove all, most bindings a user may have,
--          then for each contact: key, expiry (unix s, 0 removes), JSON
-- Returns the JSON of every binding left, or nothing when the CSeq is out of order.

local now = tonumber(ARGV[1])
local call_id, cseq = ARGV[2], tonumber(ARGV[3])
local most = tonumber(ARGV[5])

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

if ARGV[4] == '1' then
  for _, binding in pairs(bindings) do
    if out_of_order(binding) then return false end
  end
  redis.call('DEL', KEYS[1])
  return {}
end

for i = 6, #ARGV, 3 do
  if out_of_order(bindings[ARGV[i]]) then return false end
end
for i = 6, #ARGV, 3 do
  local key, expires = ARGV[i], tonumber(ARGV[i + 1])
  if expires > now then
    bindings[key] = cjson.decode(ARGV[i + 2])
    redis.call('HSET', KEYS[1], key, ARGV[i + 2])
  else
    bindings[key] = nil
    redis.call('HDEL', KEYS[1], key)
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
return redis.call('HVALS', KEYS[1])
