"""The vocabulary every room shares: ids, failures, words and events.

This package imports no other room. It holds no behaviour of the platform, only the names by which
its parts speak to each other, and what all of them need of asyncio and of Redis.
"""
