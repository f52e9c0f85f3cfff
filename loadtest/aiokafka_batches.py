"""A peer to compare with: Faust's own aiokafka driver, handing over whole fetches instead of single records.

In: `broker="aiokafkabatches://..."` after `register()`. Out: events whose value is a list of aiokafka records of one
partition. For measurements only: Faust's gap handling acknowledges a batch before it is processed, so this
loses records when a worker dies.
"""

from __future__ import annotations

from typing import Any

from faust.transport.drivers import TRANSPORTS, aiokafka
from faust.types import TP, ConsumerMessage


class BatchConsumer(aiokafka.Consumer):
    """One Faust message per fetched list of records."""

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109
        records = await super()._getmany(active_partitions, timeout)
        return {tp: [batch] for tp, batch in records.items() if batch}

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        message = super()._to_message(tp, record[-1])
        message.key, message.value = None, record
        return message


class Transport(aiokafka.Transport):
    """The driver with `BatchConsumer`; topics need `value_serializer="raw"`."""

    Consumer = BatchConsumer


def register() -> None:
    """Make `aiokafkabatches://` known to Faust."""
    TRANSPORTS.aliases["aiokafkabatches"] = f"{__name__}:Transport"
