"""Signalling, media and the call: everything between the wire and a decision."""
