"""Trunks to carriers: who may send, where to send, and which of them are fit to take a call."""
