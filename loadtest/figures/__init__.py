"""What a run of load came to: counted while it goes on, bounded and written down at its end."""
