"""The ACD: queues of callers, the agents who serve them, and who gets whom."""
