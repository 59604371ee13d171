"""The stores of a node: its own Redis and PostgreSQL as children, or others by URL."""
