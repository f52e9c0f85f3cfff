"""Where results go: Redis, ClickHouse, Kafka out."""
