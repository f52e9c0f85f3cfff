"""The topics: names, keys, partitions, settings. Declared here, once.

    topic         key                     value                                     partitions
    pos.receipts  any                     events of tills (DESIGN.md §4)            `partitions`
    members       member id               member events; what is known; compacted   1
    transactions  account id              events with `accountid`                   `partitions`, never changed
    ledger        account id              ledger records                            as transactions, number for number
    programs      program id/version      published programs, whole; compacted      1
    parked        sale's and return's keys returns whose sale is not known; compacted  1
    recall        natural key of the sale events that history must be asked about   1
    deadletter    as it came              what could not be taken, with its bytes   1
    keys          key id                  keys for the gateway; compacted           1
    audit         key id                  who changed members, keys and programs    1
    clickstream   visitor id              page views and the like, kept for days    `partitions`
    outcomes      decision id             decisions on offers, what became of them  1: a model has one learner
    triggers      account id              offers to be put to members now           `partitions`
    vouchers      code's hash, or series  single-use codes, what became of them     1: their order decides who is first
    deliveries    decision id             how far each trigger's delivery is; compacted  as triggers, number for number
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from tillstream.schemas.events import ROUTED_BYTES_MAX

RECEIPTS = "pos.receipts"
MEMBERS = "members"
TRANSACTIONS = "transactions"
LEDGER = "ledger"
PROGRAMS = "programs"
PARKED = "parked"
RECALL = "recall"
DEADLETTER = "deadletter"
KEYS = "keys"
AUDIT = "audit"
CLICKSTREAM = "clickstream"
OUTCOMES = "outcomes"
TRIGGERS = "triggers"
VOUCHERS = "vouchers"
DELIVERIES = "deliveries"

RECORD_BYTES_MAX = ROUTED_BYTES_MAX
"""What a till may send, also where we refuse it: events over a megabyte go to `deadletter`, not back to the till."""

DEADLETTER_BYTES_MAX = 12 * 1024 * 1024
"""A refused record in base64, with its reason."""

ANSWER_S = 15.0

NO_SECURITY: Mapping[str, str] = {}

KEPT = {"retention.ms": "-1"}
COMPACTED = {"cleanup.policy": "compact"}

CLICKS_KEPT = {"retention.ms": "604800000"}
"""Seven days: what a visitor looked at matters for hours, and an outage of whoever reads it is over by then."""

TRIGGERS_KEPT = {"retention.ms": "2592000000"}
"""Thirty days: longer than any channel tries to deliver; what was decided stays in `outcomes`."""

DELIVERIES_KEPT = {"cleanup.policy": "compact,delete", "retention.ms": "604800000"}
"""Seven days: longer than a delivery waits for its next attempt, so that what waits is not let go; a worker that starts reads them."""

MEMBERS_COMPACTED = COMPACTED | {"max.compaction.lag.ms": "86400000"}
"""What a member event said in clear, and what an erasure forgets, is gone in a day; else brokers let it stand until a segment is full."""


@dataclass(frozen=True)
class TopicSpec:
    """One topic as it must be."""

    name: str
    partitions: int
    settings: dict[str, str] = field(default_factory=dict)


def topic_specs(partitions: int) -> list[TopicSpec]:
    """All topics of an installation; the ledger and what it was made from are kept for ever."""
    return [
        TopicSpec(RECEIPTS, partitions, {"max.message.bytes": str(RECORD_BYTES_MAX)}),
        TopicSpec(MEMBERS, 1, MEMBERS_COMPACTED),
        TopicSpec(TRANSACTIONS, partitions, KEPT | {"max.message.bytes": str(RECORD_BYTES_MAX)}),
        TopicSpec(LEDGER, partitions, KEPT | {"max.message.bytes": str(RECORD_BYTES_MAX)}),
        TopicSpec(PROGRAMS, 1, COMPACTED),
        TopicSpec(PARKED, 1, COMPACTED),
        TopicSpec(RECALL, 1, KEPT | {"max.message.bytes": str(RECORD_BYTES_MAX)}),
        TopicSpec(DEADLETTER, 1, KEPT | {"max.message.bytes": str(DEADLETTER_BYTES_MAX)}),
        TopicSpec(KEYS, 1, COMPACTED),
        TopicSpec(AUDIT, 1, KEPT),
        TopicSpec(CLICKSTREAM, partitions, CLICKS_KEPT),
        TopicSpec(OUTCOMES, 1, KEPT),
        TopicSpec(TRIGGERS, partitions, TRIGGERS_KEPT),
        TopicSpec(VOUCHERS, 1, KEPT),
        TopicSpec(DELIVERIES, partitions, DELIVERIES_KEPT),
    ]


class TopicsUnfit(Exception):
    """A topic has another number of partitions than the installation; says which and what to do."""


class BrokerUnreachable(Exception):
    """Kafka does not answer at `address`."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"Kafka does not answer at {address}: {reason}")
        self.address = address


def ensure_topics(bootstrap: str, partitions: int, replication: int, security: Mapping[str, str] = NO_SECURITY) -> None:
    """Creates the topics that are missing and checks the partition counts of those that are there; `security` is librdkafka's.

    Raises:
        BrokerUnreachable: no broker answers within `ANSWER_S`.
        TopicsUnfit: a topic's number of partitions is not the configured one.
    """
    admin = AdminClient({**security, "bootstrap.servers": bootstrap, "log_level": 0})
    there = partition_counts(admin, bootstrap)
    specs = topic_specs(partitions)
    missing = [NewTopic(s.name, s.partitions, replication, config=s.settings) for s in specs if s.name not in there]
    if missing:
        for name, created in admin.create_topics(missing, operation_timeout=ANSWER_S).items():
            try:
                created.result(ANSWER_S)
            except KafkaException as error:
                if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
                    raise TopicsUnfit(f"topic {name} can't be created: {error.args[0].str()}") from None
    for spec in specs:
        count = there.get(spec.name, spec.partitions)
        if count != spec.partitions:
            message = f"topic {spec.name} has {count} partitions, the setting `partitions` says {spec.partitions}; it can't change later"
            raise TopicsUnfit(message)


def partition_counts(admin: AdminClient, bootstrap: str) -> dict[str, int]:
    """Partitions by topic."""
    try:
        topics = admin.list_topics(timeout=ANSWER_S).topics
    except KafkaException as error:
        raise BrokerUnreachable(bootstrap, error.args[0].str()) from None
    return {name: len(metadata.partitions) for name, metadata in topics.items()}
