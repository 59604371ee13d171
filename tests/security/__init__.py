"""Attacks, each named by what it must not achieve."""
