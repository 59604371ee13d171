"""Calls above SIP: legs, bridges, transfers, calls of phones."""
