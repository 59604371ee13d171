"""The sockets under the transactions: UDP, TCP, TLS, WS and WSS over asyncio or uvloop."""
