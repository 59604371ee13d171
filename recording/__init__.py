"""Recordings: where their files lie, the index of them, and the proof that they are unchanged."""
