"""The ledger record of a plain sale, written straight from the kernel's columns: the same bytes as `schemas.ledger.encode_record`, sooner.

A sale without a points tender is nine events in ten, and its record is a hundred integers: building Python objects for them only to encode
them takes longer than everything else that happens to the sale.
"""


import msgspec

from tillstream.schemas.events import SaleEvent
from tillstream.schemas.ledger import Entries
from tillstream.schemas.member_state import Look, Member
from tillstream.schemas.programs import Rule

_encode = msgspec.json.Encoder().encode

Fragments = list[tuple[bytes, bytes]]
"""Per rule row: what stands before its points, and behind its line numbers up to its basis."""


def fragments(rules: list[Rule], expiries: dict[str, str | None]) -> Fragments:
    """The constant parts of each rule's accruals, for sales of one local date; cut out of what msgspec writes."""
    result = []
    for rule in rules:
        entries = Entries(
            kind="accrual", unit=rule.unit, points=[1], line_no=[1], rule_id=rule.id, expires_on=expiries[rule.unit], basis=1, award=1
        )
        before, _, rest = _encode(entries).partition(b'"points":[1],"line_no":[1]')
        result.append((before + b'"points":[', b"]" + rest.removesuffix(b'1,"award":1}')))
    return result


class SaleWriter:
    """Says what stands in front of a plain sale's lines; `Awards.record` writes it and them."""

    def __init__(self, version: str) -> None:
        self.behind_day = b'","program_version":' + _encode(version) + b","

    def values(
        self, posting_id: bytes, digest: bytes, account_id: str, offset: int, event: SaleEvent, day: bytes
    ) -> list[bytes | str | int]:
        """The record up to its lines, for `Awards.record`."""
        occurred_at = event.data.issued_at.isoformat().encode()
        return [
            b'{"type":"ledger.posted","specversion":"1.0","id":"', posting_id, b'","source":"tillstream/ledger","time":"', occurred_at,
            b'","data":{"posting_id":"', posting_id, b'","kind":"sale","account_id":', account_id,
            b',"source":', event.source, b',"event_id":', event.id, b',"receipt_id":', event.data.receipt_id,
            b',"digest":"', digest, b'","offset":', offset, b',"occurred_at":"', occurred_at, b'","day":"', day, self.behind_day,
        ]  # fmt: skip


class Behind(msgspec.Struct, omit_defaults=True):
    """What a posting of a program that looks at members says behind its entries; the fields of `schemas.ledger.Posting`, in their order."""

    judged: msgspec.Raw
    member: msgspec.Raw
    budgets: dict[str, int] = {}
    look: Look | None = None


def member_text(member: Member) -> bytes:
    """A member's state as JSON, the same for its sale's record and for Redis."""
    return _encode(member)


def behind_entries(judged: bytes, member: bytes, budgets: dict[str, int], look: Look | None) -> bytes:
    """The end of such a sale's record, for `Awards.record`; `judged` and `member` are JSON already."""
    return b"," + _encode(Behind(msgspec.Raw(judged), msgspec.Raw(member), budgets, look))[1:-1]
