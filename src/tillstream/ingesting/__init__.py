"""`tillstream ingest`: files by a mapping into Kafka, with checkpoints, rejects, and a folder that is watched."""
