"""The node: configuration, stores, event bus, and the composition of all rooms into a process."""
