"""What the nodes of a platform share through Redis."""
