"""Who may send to us."""
