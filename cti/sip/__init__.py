"""SIP over asyncio: a sans-IO core (messages, transactions, dialogs) and thin sockets around it."""
