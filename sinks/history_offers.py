"""History of offers: page views, decisions, what became of them, and what channels were told, into ClickHouse.

In: records of the topics `clickstream`, `outcomes` and `triggers`, in the order of their partition. Out: rows of page_views_log,
offer_decisions_log, offer_outcomes_log, offer_triggers_log and history_rejects.

Delivery and idempotency key: as history.py. Repeats collapse on the decision's id, or on the event's source and id. What is no page view is
left out altogether: anybody may write some, and nothing is made of them.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, ClassVar

from tillstream.kernels.identities import hash_in
from tillstream.schemas.clickstream import WEB, ClickEvent, decode_click
from tillstream.schemas.events import Malformed
from tillstream.schemas.offers import (
    BoughtEvent,
    ClickedEvent,
    DecidedEvent,
    RedeemedEvent,
    ReturnedEvent,
    ShownEvent,
    TriggeredEvent,
    decode_outcome,
    decode_trigger,
)
from tillstream.sinks.archive import KEY_BYTES
from tillstream.sinks.history import COLUMNS, KAFKA, History, Record, Rows, instant

OFFER = "offer."
"""What the types of outcomes begin with."""

Reported = ShownEvent | ClickedEvent | RedeemedEvent | BoughtEvent | ReturnedEvent

OFFER_COLUMNS = {
    "page_views_log": (
        *("occurred_on", "view_key", "name", "source", "event_id", "occurred_at", "visitor_id", "session_id", "member_scheme", "member"),
        *("page_location", "page_title", "page_referrer", "search_term", "value", "currency", "transaction_id"),
        *("items.item_id", "items.item_category", "items.price", "items.quantity", *KAFKA),
    ),
    "offer_decisions_log": (
        *("occurred_on", "decision_id", "offer_id", "program_id", "program_version", "member_id", "account_id", "channel"),
        *("decision_group", "cause_source", "cause_event_id", "cause_type", "why", "decided_at", "answer_by", "consents"),
        *("model", "model_version", "score", "exploration", "features", *KAFKA),
    ),
    "offer_outcomes_log": (
        *("occurred_on", "outcome_key", "decision_id", "kind", "source", "event_id", "occurred_at", "receipt_id", "amount", *KAFKA),
    ),
    "offer_triggers_log": (
        *("occurred_on", "decision_id", "title", "unit", "points", "amount_off", "currency", "basis_points_off", "triggered_at"),
        *("expires_at", "visitor_id", "session_id", "sku", "category", *KAFKA),
    ),
}
"""What is inserted, in the order of the row functions below."""


class OfferHistory(History):
    """Writes blocks, as `History` does."""

    columns: ClassVar[Mapping[str, tuple[str, ...]]] = {**COLUMNS, **OFFER_COLUMNS}

    def write_clicks(self, partition: int, records: Sequence[Record]) -> int:
        """Writes page views. Gives the rows sent; raises as `History.write_transactions`."""
        return self._write("clickstream", partition, records, add_click)

    def write_outcomes(self, partition: int, records: Sequence[Record]) -> int:
        """Writes decisions, and what became of them. Gives the rows sent; raises as `History.write_transactions`."""
        return self._write("outcomes", partition, records, add_outcome)

    def write_triggers(self, partition: int, records: Sequence[Record]) -> int:
        """Writes what channels were told. Gives the rows sent; raises as `History.write_transactions`."""
        return self._write("triggers", partition, records, add_trigger)


def add_click(rows: Rows, partition: int, offset: int, value: bytes) -> None:
    """Adds the row of a page view; nothing where it is none."""
    try:
        event = decode_click(value)
    except Malformed:
        return
    rows.setdefault("page_views_log", []).append(view_row(event, partition, offset))


def add_outcome(rows: Rows, partition: int, offset: int, value: bytes) -> None:
    """Adds the row of a decision or an outcome; raises ValueError where it is neither."""
    try:
        event = decode_outcome(value)
    except Malformed as malformed:
        raise ValueError(str(malformed)) from None
    if isinstance(event, DecidedEvent):
        rows.setdefault("offer_decisions_log", []).append(decision_row(event, partition, offset))
    else:
        rows.setdefault("offer_outcomes_log", []).append(outcome_row(event, partition, offset))


def add_trigger(rows: Rows, partition: int, offset: int, value: bytes) -> None:
    """Adds the row of a trigger; raises ValueError where it is none."""
    try:
        event = decode_trigger(value)
    except Malformed as malformed:
        raise ValueError(str(malformed)) from None
    rows.setdefault("offer_triggers_log", []).append(trigger_row(event, partition, offset))


def view_row(event: ClickEvent, partition: int, offset: int) -> tuple[Any, ...]:
    """A row of page_views_log."""
    data, moment = event.data, utc(event.time)
    said = [getattr(data, name, None) for name in ("search_term", "value", "currency", "transaction_id")]
    member = data.member
    return (
        *(moment.date(), mark(event.source, event.id), str(event.__struct_config__.tag).removeprefix(WEB), event.source, event.id, moment),
        *(data.visitor_id, data.session_id, member and member.scheme, None if member is None else hash_in(member)),
        *(data.page_location, data.page_title, data.page_referrer, *said),
        *([item.item_id for item in data.items], [item.item_category for item in data.items]),
        *([item.price for item in data.items], [item.quantity for item in data.items], partition, offset),
    )


def decision_row(event: DecidedEvent, partition: int, offset: int) -> tuple[Any, ...]:
    """A row of offer_decisions_log."""
    data, moment = event.data, utc(event.time)
    cause, judged = data.cause, data.judgement
    judgement: tuple[Any, ...] = (None, None, None, None, {})
    return (
        *(moment.date(), data.decision_id, data.offer_id, data.program_id, data.program_version, data.member_id, data.account_id),
        *(data.channel, data.group, cause.source, cause.event_id, cause.type, cause.why, moment, utc(data.answer_by), data.consents),
        *(judgement if judged is None else (judged.model, judged.version, judged.score, judged.exploration, judged.features)),
        *(partition, offset),
    )


def outcome_row(event: Reported, partition: int, offset: int) -> tuple[Any, ...]:
    """A row of offer_outcomes_log."""
    moment, data = utc(event.time), event.data
    return (
        *(moment.date(), mark(event.source, event.id), data.decision_id, str(event.__struct_config__.tag).removeprefix(OFFER)),
        *(event.source, event.id, moment, data.receipt_id, data.amount, partition, offset),
    )


def trigger_row(event: TriggeredEvent, partition: int, offset: int) -> tuple[Any, ...]:
    """A row of offer_triggers_log."""
    data, moment, worth = event.data, utc(event.time), event.data.worth
    return (
        *(moment.date(), data.decision_id, data.title, worth.unit, worth.points, worth.amount_off, worth.currency),
        *(worth.basis_points_off, moment, utc(data.expires_at), data.visitor_id, data.session_id, data.sku, data.category),
        *(partition, offset),
    )


def utc(moment: datetime) -> datetime:
    """A moment as far as ClickHouse can hold it."""
    return instant(moment)[0]


def mark(source: str, event_id: str) -> bytes:
    """By what a repeated event is told."""
    return sha256(f"{source}\0{event_id}".encode()).digest()[:KEY_BYTES]
