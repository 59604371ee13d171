"""Load on the whole platform, and what it costs: the figures of docs/benchmarks.md."""
