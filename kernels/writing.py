"""The ledger record of a plain sale, written straight from the kernel's columns: the same bytes as `schemas.ledger.encode_record`, sooner.

A sale without a points tender is nine events in ten, and its record is a hundred integers: building Python objects for them only to encode
them takes longer than everything else that happens to the sale.
"""


import msgspec

from tillstream.schemas.ledger import Entries
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
    """Writes the records of one program's plain sales."""

    def __init__(self, version: str) -> None:
        self.behind_day = b'","program_version":' + _encode(version) + b","

    def record(
        self, identity: tuple[str, str], place: tuple[str | None, int], origin: tuple[str, str, str], when: tuple[str, str], tail: bytes
    ) -> bytes:
        """One record.

        Args:
            identity: posting id and digest.
            place: account id (None: anonymous) and offset.
            origin: source, event id and receipt id.
            when: `occurred_at` and the local date, ISO.
            tail: lines and entries, of `Awards.written`.
        """
        posting_id = identity[0].encode()
        occurred_at = when[0].encode()
        return b"".join(
            (
                b'{"type":"ledger.posted","specversion":"1.0","id":"', posting_id, b'","source":"tillstream/ledger","time":"', occurred_at,
                b'","data":{"posting_id":"', posting_id, b'","kind":"sale","account_id":', _encode(place[0]),
                b',"source":', _encode(origin[0]), b',"event_id":', _encode(origin[1]), b',"receipt_id":', _encode(origin[2]),
                b',"digest":"', identity[1].encode(), b'","offset":', b"%d" % place[1], b',"occurred_at":"', occurred_at,
                b'","day":"', when[1].encode(), self.behind_day, tail, b"}}",
            )
        )  # fmt: skip
