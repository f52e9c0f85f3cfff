"""Load tests, run from a checkout: `python -m loadtest --help` (docs/performance.md). Not installed."""
