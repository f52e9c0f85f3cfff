"""Load tests, run from a checkout: `python -m loadtest pipeline|kernel|transport` (docs/performance.md). Not installed."""
