"""Reports: the events of the stream become call records, steps, legs and agents' figures in SQL.

This room only reads events; it knows nothing of calls in progress.
"""
