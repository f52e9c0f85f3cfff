"""A client of the gateway for tills: answers in time or not at all, and receipts that outlive the line, the gateway and the till.

    async with Client("http://127.0.0.1:8080", "ts_5f1c...", queue=Path("receipts")) as till:
        outcome = await till.post({"type": "receipt.sale", "data": {"receipt_id": "PL-0001/3/2026-03-07/000123", ...}})

In: bodies as the gateway takes them (docs/gateway.md). Out: its answers, as the types that it encodes them from.
"""

from tillstream.client.asking import Away, Refused
from tillstream.client.queue import QueueFull, QueueUnusable
from tillstream.client.till import Client, Queued

__all__ = ["Away", "Client", "QueueFull", "QueueUnusable", "Queued", "Refused"]
