"""Files of old systems as canonical events, by a mapping: docs/ingest.md is the reference."""
