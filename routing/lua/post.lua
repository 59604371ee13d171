-- Send a message to another node, in order with what this node asks of the ACD. Returns {1}.

redis.call('PUBLISH', request.channel .. request.to, request.message)
return {1}
