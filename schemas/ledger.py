"""What the ledger topic carries: above all `ledger.posted`, one event per posting, and the entries that it holds (DESIGN.md §3, §7).

A posting is everything that one source event did to one account. Its entries stand in columns, grouped by what they share, so that a
12-line receipt under ten rules is one record of about a kilobyte and not sixty. `entries()` lays them out one by one.
"""

from collections.abc import Iterator
from typing import Literal

import msgspec
from msgspec import Struct

from tillstream.schemas.member_state import Judged, Look, Member, Sheet

EntryKind = Literal[
    "accrual", "reversal", "hold", "capture", "release", "redemption", "expiry", "adjustment", "transfer"
]


PostingKind = Literal[
    "sale", "return", "void", "tick", "activity", "enrolment", "hold", "release", "redemption", "adjustment", "transfer", "due",
    "correction", "segments", "merge", "takeover",
]  # fmt: skip
"""What the source event was; `due` fell due by itself, a correction is what a late event changes of what an earlier posting
gave. A merge, or unmerge, stands with the account that is merged, a takeover with the one that takes over what it did."""


class Entries(Struct, frozen=True, gc=False, omit_defaults=True):
    """Entries of one kind, rule and lot. Columns are parallel; `reverses` holds entry numbers within the posting `reverses_posting`.

    `basis` (minor units) and `award` (points before the cap) are what the rule worked on: they let `explain` show the formula.
    `spent_on` is the local date of a redemption or hold, also on what gives its points back; `uncovered` marks one beyond the balance,
    `beyond_terms` one that the program's terms of spending do not allow. `hold_id` names the hold that is made, ended or taken; `until` is
    the last local date on which points are held or pending, also on the release that this date brings.
    """

    kind: EntryKind
    unit: str
    points: list[int]
    line_no: list[int] = []
    rule_id: str | None = None
    expires_on: str | None = None
    spent_on: str | None = None
    reverses: list[int] = []
    uncovered: bool = False
    basis: int | None = None
    award: int | None = None
    beyond_terms: bool = False
    hold_id: str | None = None
    until: str | None = None


class Posting(Struct, frozen=True, gc=False, omit_defaults=True):
    """The data of `ledger.posted`.

    `posting_id` is the hexadecimal natural key of the source event, `digest` the hash of its data, `offset` its place in the same
    partition of `transactions` (in `simulate`: its line), `day` its local date. `line_no`, `amount` and `quantity_milli` are the
    receipt's lines in columns; of a return or void, the sale's line numbers and what came back. `closes` is false where more postings of
    the same offset follow. Where the program looks at members: `judged` is what the event was judged by, `member` the state behind it,
    `sheet` what the sale or bonus that a posting reverses stands at, `budgets` what the rules took from theirs, by rule id, `look` what a
    sale is judged again under on a return, where a rule that gave something wants that.
    """

    posting_id: str
    kind: PostingKind
    account_id: str | None
    source: str
    event_id: str
    receipt_id: str | None
    digest: str
    offset: int
    occurred_at: str
    day: str
    program_version: str | None
    line_no: list[int]
    amount: list[int]
    quantity_milli: list[int]
    entries: list[Entries]
    reverses_posting: str | None = None
    closes: bool = True
    judged: Judged | None = None
    member: Member | None = None
    sheet: Sheet | None = None
    budgets: dict[str, int] = {}
    look: Look | None = None


class Entry(Struct, frozen=True):
    """One immutable signed movement of one unit on one account (the line format of `simulate --ledger`)."""

    entry_id: str
    account_id: str | None
    unit: str
    kind: EntryKind
    points: int
    source: str
    event_id: str
    receipt_id: str | None
    line_no: int | None
    rule_id: str | None
    program_version: str | None
    occurred_at: str
    expires_on: str | None
    reverses: str | None


class Waiting(Struct, frozen=True):
    """The data of `ledger.waiting`: a return or void whose sale, `sale_id`, has not come; `event` is the whole source event.

    It moves nothing, and is taken up when its sale is posted.
    """

    posting_id: str
    sale_id: str
    digest: str
    offset: int
    occurred_at: str
    event: msgspec.Raw


class Refused(Struct, frozen=True, omit_defaults=True):
    """The data of `ledger.refused`: an event that waited and, its sale there, could not be taken; its bytes are in `deadletter`."""

    posting_id: str
    sale_id: str
    code: str
    offset: int
    occurred_at: str
    closes: bool = True


class LedgerRecord(Struct, frozen=True, kw_only=True, tag_field="type"):
    """The envelope of a ledger record: the same bytes stand on the topic `ledger` and in Redis."""

    specversion: str = "1.0"
    id: str
    source: str = "tillstream/ledger"
    time: str


class PostedRecord(LedgerRecord, frozen=True, kw_only=True, tag="ledger.posted"):
    data: Posting


class WaitingRecord(LedgerRecord, frozen=True, kw_only=True, tag="ledger.waiting"):
    data: Waiting


class RefusedRecord(LedgerRecord, frozen=True, kw_only=True, tag="ledger.refused"):
    data: Refused


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(PostedRecord | WaitingRecord | RefusedRecord)


def encode_record(record: Posting | Waiting | Refused) -> bytes:
    """The ledger record's bytes: the same record gives the same bytes."""
    identifier, time = record.posting_id, record.occurred_at
    if isinstance(record, Posting):
        return _encoder.encode(PostedRecord(id=identifier, time=time, data=record))
    if isinstance(record, Waiting):
        return _encoder.encode(WaitingRecord(id=f"{identifier}/waiting", time=time, data=record))
    return _encoder.encode(RefusedRecord(id=f"{identifier}/refused", time=time, data=record))


def decode_record(raw: bytes) -> Posting | Waiting | Refused:
    """What one ledger record holds."""
    record: PostedRecord | WaitingRecord | RefusedRecord = _decoder.decode(raw)
    return record.data


def entries(posting: Posting) -> Iterator[Entry]:
    """The entries of `posting` one by one; the n-th is called `<posting_id>-<n>`."""
    number = 0
    for group in posting.entries:
        for index, points in enumerate(group.points):
            yield Entry(
                entry_id=f"{posting.posting_id}-{number}",
                account_id=posting.account_id,
                unit=group.unit,
                kind=group.kind,
                points=points,
                source=posting.source,
                event_id=posting.event_id,
                receipt_id=posting.receipt_id,
                line_no=group.line_no[index] if group.line_no else None,
                rule_id=group.rule_id,
                program_version=posting.program_version,
                occurred_at=posting.occurred_at,
                expires_on=group.expires_on,
                reverses=f"{posting.reverses_posting}-{group.reverses[index]}" if group.reverses else None,
            )
            number += 1
