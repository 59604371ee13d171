"""Where the platform's Python spends its CPU: stacks from py-spy, by part and as a flame graph."""
