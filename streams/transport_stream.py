"""How agents iterate: streams that acknowledge a batch when the next one is asked for, and the hand-over to them.

In: `BatchMessage`s from the consumer, through the conductor. Out: `Batch`es to agents, acknowledgements back.

Faust's own streams acknowledge in a `finally`, so a batch whose agent raised is acknowledged as soon as Python collects
the abandoned generator. Here the acknowledgement stands behind the `yield`: only an agent that comes back for more, or
calls `stream.ack(event)` itself, has acknowledged. When a supervisor restarts an agent that raised, it gets the same
batch again first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableSet
from typing import TYPE_CHECKING, Any, cast

import faust
from faust.exceptions import Skip
from faust.transport.conductor import Conductor
from faust.types import TP, ConsumerMessage, EventT, Message, TopicT
from faust.types.transports import ConsumerCallback
from mode.utils.futures import maybe_async

from tillstream.streams.transport_inflight import Batch

if TYPE_CHECKING:
    from tillstream.streams.transport_consumer import BatchConsumer

_SKIPPED = object()


class BatchMessage(ConsumerMessage):
    """One Faust message that stands for a whole batch."""

    def __init__(self, batch: Batch) -> None:
        kind, timestamp_ms = batch.messages[0].timestamp()
        super().__init__(
            batch.topic,
            batch.partition,
            batch.first_offset,
            timestamp=timestamp_ms / 1000.0,
            timestamp_type=kind,
            headers=None,
            key=None,
            value=None,
            checksum=None,
            serialized_key_size=0,
            serialized_value_size=0,
            tp=TP(batch.topic, batch.partition),
            generation_id=batch.generation,
        )
        self.batch = batch


class BatchConductor(Conductor):
    """Puts batches on the queues of the subscribing agents, past Faust's codecs."""

    def _build_handler(self, tp: TP, channels: MutableSet[Any]) -> ConsumerCallback:
        app = self.app

        async def hand_over(message: Message) -> None:
            if not channels:
                raise RuntimeError(f"{tp} is assigned, but no agent listens to it.")
            batch = cast(BatchMessage, message).batch
            message.incref(len(channels))
            for channel in channels:
                # The queue needs no bound of its own: a partition has one batch on its way, never two.
                channel.queue.force_put_nowait(app.create_event(None, cast(Any, batch), None, message))

        return hand_over


class BatchStream(faust.Stream[Any]):
    """A stream of batches; for channels that are no topic it is Faust's."""

    #: Batches this stream's agent has taken up and not acknowledged; they outlive the agent, for the one restarted.
    _held: dict[TP, EventT[Any]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._held = {}

    def __aiter__(self) -> AsyncIterator[Any]:
        """Iterate; anew after the agent was restarted."""
        return self._batches() if isinstance(self.channel, TopicT) else super().__aiter__()

    async def _batches(self) -> AsyncIterator[Any]:
        self._finalized = True
        await self.maybe_start()
        again = [event for event in self._held.values() if not event.message.acked]
        try:
            while not self.should_stop:
                event = again.pop(0) if again else cast("EventT[Any]", await self.channel.__anext__())
                if not self._take_up(event):
                    continue
                value = await self._processed(event.value)
                if value is not _SKIPPED:
                    yield value
                # Only an agent that came back for more gets here, see the head of this file.
                self._put_down(event, acknowledge=self.enable_acks or value is _SKIPPED)
        except StopAsyncIteration:
            # This is how Faust asks an agent to stop.
            self._channel_stop_iteration(self.channel)
        except asyncio.CancelledError:
            self._channel_stop_iteration(self.channel)
            raise

    def _take_up(self, event: EventT[Any]) -> bool:
        tp = event.message.tp
        if not cast("BatchConsumer", self.app.consumer).start_batch(cast(BatchMessage, event.message)):
            # A rebalance has taken the partition away since the batch was queued.
            self._held.pop(tp, None)
            return False
        self._held[tp] = event
        self._set_current_event(event)
        self._sensor_state = self._on_stream_event_in(tp, event.message.offset, self, event)
        return True

    def _put_down(self, event: EventT[Any], *, acknowledge: bool) -> None:
        message = event.message
        self.current_event = None
        self.events_total += 1
        if acknowledge:
            self._held.pop(message.tp, None)
            if event.ack():
                self._on_message_out(message.tp, message.offset, message)
        self._on_stream_event_out(message.tp, message.offset, self, event, self._sensor_state)

    async def _processed(self, value: Any) -> Any:
        try:
            for processor in self._processors:
                value = await maybe_async(processor(value))
            return await self.on_merge(value)
        except Skip:
            return _SKIPPED
