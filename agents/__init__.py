"""Agents: their states, their toolbar over gRPC, and the way of a queued caller to one of them."""
