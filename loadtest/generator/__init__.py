"""Plays a scenario: callers, agents and phones that cost little, against a platform."""
