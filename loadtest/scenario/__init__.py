"""What a load scenario says: the file, the plan of arrivals, what callers and agents do."""
