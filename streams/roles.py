"""What the agents of all roles share.

A role is a consumer group of its own: while ClickHouse is away, points go on; pages don't wait for models.
"""

IN_PROGRESS = {
    "identify": 8, "enrol": 1, "accrue": 8, "vouchers": 1,
    "history": 2, "browsing": 1, "recall": 1,
    "observe": 8, "regard": 8, "forget": 1, "learn": 1, "deliver": 8,
}  # fmt: skip
"""Partitions in progress at once, per agent: enough to hide the waiting for Kafka and Redis, few enough to bound memory."""

STATS_EVERY_S = 0.5
