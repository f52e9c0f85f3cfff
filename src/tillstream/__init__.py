"""tillstream: an open, self-hosted, real-time loyalty engine."""

__version__ = "0.1.0"
