"""Python's collector of cycles, kept from searching where there are none: a full search takes tens of milliseconds, and a till waits."""

import gc

COLLECT_EVERY = 200_000
"""Allocations between two collections: some ten batches of a worker."""


def spare_the_collector() -> None:
    """To be called when everything is loaded. What a batch or a request makes has no cycles and is freed by its counts."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY, 50, 100)
