"""One sale of the demo at a till: who is it, what would it earn, sold. Through a gateway, by the client for tills."""

import time
from collections import deque
from typing import Any

from tillstream.client import Client, Queued
from tillstream.histories import Event

WAIT_MS = 5_000
"""The worker has nothing else to do; a slow machine may take its time."""


def take_sale(events: deque[Event]) -> Event | None:
    """Takes the last sale to a member out of some events; None: there is none."""
    for event in reversed(events):
        if event["type"] == "receipt.sale" and "member" in event["data"]:
            events.remove(event)
            return event
    return None


async def sell(address: str, sale: Event) -> dict[str, Any]:
    """What a till is told of one sale, and how long it waited for it: milliseconds as `*_ms`.

    Raises:
        Away, Refused: the gateway does not answer, or not with what it should.
    """
    data, waited = sale["data"], {}
    basket = {name: value for name, value in data.items() if name != "receipt_id"}
    async with Client(address, wait_ms=WAIT_MS) as till:
        started = time.perf_counter()
        who = await till.identify(data["member"]["scheme"], data["member"]["value"])
        waited["identify_ms"] = ms_since(started)
        started = time.perf_counter()
        quoted = await till.quote(basket)
        waited["quote_ms"] = ms_since(started)
        started = time.perf_counter()
        outcome = await till.post(sale)
        waited["receipt_ms"] = ms_since(started)
    entries = [] if isinstance(outcome, Queued) else outcome.entries
    return {
        "receipt_id": data["receipt_id"],
        "who": who.name,
        "offers": [offer.title for offer in who.offers],
        "quoted": quoted.earns,
        "outcome": "queued" if isinstance(outcome, Queued) else outcome.outcome,
        "points": sum(entry.points for entry in entries),
        "lines": len({entry.line_no for entry in entries}),
        **waited,
    }


def ms_since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 1)
