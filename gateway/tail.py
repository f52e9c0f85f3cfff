"""A topic from its end on, read once for all who listen to this gateway, and stretches of it that were before.

In: all partitions of a topic, without a consumer group. Out: records, each once, in the order of their partition.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tillstream.gateway.marks import Mark

ROWS_MAX = 500
"""Records in one hand-over: some milliseconds of the event loop's time."""

POLL_S = 0.1

FETCH_WAIT_MS = 100
"""A broker answers as soon as there is a record; the embedded one looks again after half of it, which bounds a trigger's delay there."""

SILENT_S = 5.0
"""A broker that says nothing for so long is away."""

READER = {
    "group.id": "tillstream-reader", "enable.auto.commit": False, "enable.partition.eof": True, "fetch.wait.max.ms": FETCH_WAIT_MS,
    "log_level": 0,
}  # fmt: skip

log = logging.getLogger("tillstream.triggers")


class Tail:
    """Hands records to `take` from the moment of `start`; `ended` is called, in the event loop, where the topic can't be followed."""

    def __init__(
        self, kafka: Mapping[str, Any], topic: str, partitions: int, take: Callable[[list[Message]], None], ended: Callable[[], None]
    ) -> None:
        self.consumer = Consumer({**READER, **kafka, "auto.offset.reset": "error"})
        self.places = [TopicPartition(topic, partition) for partition in range(partitions)]
        self.take = take
        self.ended = ended
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, name="triggers", daemon=True)

    async def start(self) -> Mark:
        """Where the topic ends now; records behind it are handed over from here on.

        Raises:
            KafkaException: the broker fails, or is silent.
        """
        self.loop = asyncio.get_running_loop()
        try:
            mark = await asyncio.to_thread(self._find_ends)
        except BaseException:
            await asyncio.to_thread(self.consumer.close)
            raise
        self.thread.start()
        return mark

    async def stop(self) -> None:
        """Hands nothing over any more when this returns."""
        self.stopped.set()
        if self.thread.is_alive():
            await asyncio.to_thread(self.thread.join)

    def _find_ends(self) -> Mark:
        # By reading to them: the embedded broker's watermarks leave out the last batch but for its first record.
        ends: dict[int, int] = {}
        for place in self.places:
            place.offset = max(0, self.consumer.get_watermark_offsets(place, SILENT_S)[1] - 1)
        self.consumer.assign(self.places)
        silent_s = 0.0
        while len(ends) < len(self.places):
            messages = self.consumer.consume(ROWS_MAX, POLL_S)
            silent_s = 0.0 if messages else silent_s + POLL_S
            if silent_s > SILENT_S:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            for message in messages:
                if is_end(message):
                    ends[message.partition() or 0] = message.offset() or 0
        return tuple(ends[partition] for partition in range(len(self.places)))

    def _run(self) -> None:
        try:
            while not self.stopped.is_set():
                messages = [message for message in self.consumer.consume(ROWS_MAX, POLL_S) if not is_end(message)]
                if messages:
                    asyncio.run_coroutine_threadsafe(self._hand(messages), self.loop).result()
        except KafkaException as error:  # Another topic of this name, an empty one perhaps.
            log.error("triggers_not_followed error=%s", error)
            self.loop.call_soon_threadsafe(self.ended)
        finally:
            self.consumer.close()

    async def _hand(self, messages: list[Message]) -> None:
        self.take(messages)


def is_end(message: Message) -> bool:
    """Whether it is no record, but tells of an end, or of a broker that is away for now.

    Raises:
        KafkaException: what was read is not there any more.
    """
    error = message.error()
    if error is not None and error.code() == KafkaError._AUTO_OFFSET_RESET:
        raise KafkaException(error)
    return error is not None
