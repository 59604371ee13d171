"""Calls to phones that are registered at another node."""
