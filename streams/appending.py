"""A few records at the end of a topic, from a command: programs, keys, the audit log. Agents append through sinks/writer.py."""

from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from tillstream.sinks.writer import PRODUCER

ANSWER_S = 15.0


def append(kafka: Mapping[str, Any], topic: str, records: Iterable[tuple[str, bytes]]) -> None:
    """Appends (key, value) pairs, in this order; acknowledged by all replicas when this returns.

    Raises:
        KafkaException: one was not.
    """
    reports: list[KafkaError | None] = []
    producer = Producer({**PRODUCER, **kafka, "message.timeout.ms": int(ANSWER_S * 1000)})
    sent = 0
    for key, value in records:
        producer.produce(topic, value, key.encode(), on_delivery=lambda error, _: reports.append(error))
        sent += 1
    producer.flush(ANSWER_S)
    failed = [error for error in reports if error is not None]
    if failed or len(reports) < sent:
        raise KafkaException(failed[0] if failed else KafkaError(KafkaError._MSG_TIMED_OUT))
