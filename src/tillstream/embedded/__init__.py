"""The servers of a one-machine installation, from wheels: a broker, a Redis and a ClickHouse, on loopback ports."""
