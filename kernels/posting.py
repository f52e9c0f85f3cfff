"""Events into postings: what each receipt, return, void or tick does to its account, judged against a snapshot (DESIGN.md §5).

In: routed events, decoded, in the order of their partition, and a `Snapshot` with what they name. Out, per event, one outcome: `accepted`
or `waiting` (its sale has not come) with a ledger record, `duplicate`, or `refused` with a reason. The snapshot moves along.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from tillstream.kernels.award import Kernel
from tillstream.kernels.columns import gather
from tillstream.kernels.earning import Given, accruals, redemptions
from tillstream.kernels.expiry import expires_on
from tillstream.kernels.keys import digest_of, key_of, occurred, sale_key_of
from tillstream.kernels.lapsing import expiries, expiries_after, tick_posting
from tillstream.kernels.rules import CompiledRules
from tillstream.kernels.snapshot import Returned, Snapshot
from tillstream.kernels.undoing import undo_lines, undo_rest
from tillstream.schemas.events import Malformed, ReceiptEvent, ReturnEvent, SaleEvent, TickEvent, VoidEvent, decode
from tillstream.schemas.fields import INT64_MAX
from tillstream.schemas.ledger import Entries, Posting, Refused, Waiting, decode_record, encode_record
from tillstream.schemas.program_file import Versioned
from tillstream.schemas.receipts import Return, Sale

LedgerEvent = SaleEvent | ReturnEvent | VoidEvent | TickEvent

DAYS_MAX = 4_000
"""Local dates whose expiry dates are remembered: ten years of them."""


class Routed(NamedTuple):
    """An event on its way to its account: `account_id` None is an anonymous receipt, `offset` its place, `raw` its bytes."""

    event: LedgerEvent
    account_id: str | None
    offset: int
    raw: bytes


class Outcome(NamedTuple):
    """What became of one event; `records` go to the ledger, `problem` says why it was refused, `waited` that it came before its sale."""

    routed: Routed
    status: Literal["accepted", "duplicate", "waiting", "refused"]
    records: Sequence[bytes] = ()
    problem: Malformed | None = None
    waited: bool = False


class Earned(NamedTuple):
    """What the rules give one sale (None: a sum overflows 64 bits), and its local date."""

    given: Given | None
    day: date


class Poster:
    """Judges events by one program."""

    def __init__(self, program: Versioned) -> None:
        self.program, self.version = program
        self.zone = ZoneInfo(self.program.program.time_zone)
        self.compiled = CompiledRules(self.program)
        self.kernel = Kernel(self.compiled)
        self.expiries: dict[date, dict[str, str | None]] = {}

    def post(self, batch: Sequence[Routed], snapshot: Snapshot) -> list[Outcome]:
        """The outcomes in order, each sale's followed by those of what waited for it; the snapshot has everything applied on return."""
        earned = self.earn([routed.event for routed in batch if isinstance(routed.event, SaleEvent)])
        outcomes: list[Outcome] = []
        for routed in batch:
            if isinstance(routed.event, TickEvent):
                outcomes.append(Outcome(routed, "accepted", list(self.tick(routed, routed.event, snapshot))))
            elif isinstance(routed.event, SaleEvent):
                outcomes.extend(self.post_sale(routed, routed.event, next(earned), snapshot))
            else:
                outcomes.append(self.post_undo(routed, routed.event, snapshot))
        return outcomes

    def earn(self, sales: Sequence[SaleEvent]) -> Iterator[Earned]:
        """The kernel's awards for a batch of sales."""
        columns = gather(self.compiled, [sale.data for sale in sales], self.zone)
        awards = self.kernel.award(*columns[:-1])
        for given, status, day in zip(awards.by_receipt(), awards.status, columns.dates, strict=True):
            yield Earned(None if status else given, day)

    def post_sale(self, routed: Routed, event: SaleEvent, earned: Earned, snapshot: Snapshot) -> Iterator[Outcome]:
        """A sale, then the returns and voids that waited for it, by their time and key, whatever order they came in."""
        key, digest = key_of(event), digest_of(event)
        waiting = snapshot.waiting.get(key, {}).copy()
        try:
            if (known := snapshot.postings.get(key)) is not None:
                yield self.known_before(routed, known, digest)
                return
            posting = self.sale(routed, event, earned, snapshot, (key, digest))
            yield Outcome(routed, "accepted", [self.keep(posting, snapshot, closes=not waiting)])
        except Malformed as problem:
            yield Outcome(routed, "refused", problem=problem)
            return
        late = [Routed(decode(raw), routed.account_id, routed.offset, raw) for raw in waiting.values()]
        late.sort(key=lambda item: (occurred(item.event), key_of(item.event)))  # type: ignore[arg-type]
        for index, item in enumerate(late):
            yield self.post_undo(item, item.event, snapshot, waited=True, closes=index == len(late) - 1)  # type: ignore[arg-type]

    def post_undo(
        self, routed: Routed, event: ReturnEvent | VoidEvent, snapshot: Snapshot, *, waited: bool = False, closes: bool = True
    ) -> Outcome:
        """A return or void: takes back what its sale gave, or waits for it."""
        key, digest, sale_key = key_of(event), digest_of(event), sale_key_of(event)
        try:
            if (known := snapshot.postings.get(key) or snapshot.waiting.get(sale_key, {}).get(key)) is not None:
                return self.known_before(routed, known, digest)
            if (sale := snapshot.postings.get(sale_key)) is None:
                raw = msgspec.Raw(routed.raw.strip())  # A reader of the record sees no white space around it either (G5).
                waiting = Waiting(key, sale_key, digest, routed.offset, occurred(event).isoformat(), raw)
                return Outcome(routed, "waiting", [record_in(snapshot, waiting)])
            posting = self.undo(routed, event, sale, snapshot, (key, digest))
            return Outcome(routed, "accepted", [self.keep(posting, snapshot, closes=closes)], waited=waited)
        except Malformed as problem:
            refused = Refused(key, sale_key, problem.code, routed.offset, occurred(event).isoformat(), closes)
            return Outcome(routed, "refused", [record_in(snapshot, refused)] if waited else (), problem, waited)

    def known_before(self, routed: Routed, known: bytes, digest: str) -> Outcome:
        """G2: the same key and data is a duplicate, the same key with other data a conflict.

        Raises:
            Malformed: a conflict.
        """
        earlier = decode_record(known) if known.startswith(b'{"type":"ledger.') else decode(known)
        if digest == (earlier.digest if isinstance(earlier, Posting) else digest_of(earlier)):  # type: ignore[arg-type]
            return Outcome(routed, "duplicate")
        event: ReceiptEvent = routed.event  # type: ignore[assignment]
        message = f"receipt {event.data.receipt_id!r} of source {event.source!r} is known with other data"
        raise Malformed("conflict", "$.data", message)

    def sale(self, routed: Routed, event: SaleEvent, earned: Earned, snapshot: Snapshot, identity: tuple[str, str]) -> Posting:
        """What a sale gives and takes; an anonymous one neither."""
        sale, day = event.data, earned.day.isoformat()
        if earned.given is None:
            raise Malformed("overflow", "$.data.lines", "the receipt's sums or points do not fit 64 bits")
        self.check_currency(sale)
        entries: list[Entries] = []
        if routed.account_id is not None:
            entries += redemptions(self.program, sale, snapshot.units(routed.account_id), day)
            entries += accruals(self.compiled.rules, sale.lines, earned.given, self.expiries_from(earned.day))
        return Posting(
            posting_id=identity[0],
            kind="sale",
            account_id=routed.account_id,
            source=event.source,
            event_id=event.id,
            receipt_id=sale.receipt_id,
            digest=identity[1],
            offset=routed.offset,
            occurred_at=sale.issued_at.isoformat(),
            day=day,
            program_version=self.version,
            line_no=[line.line_no for line in sale.lines],
            amount=[line.amount for line in sale.lines],
            quantity_milli=[line.quantity_milli for line in sale.lines],
            entries=entries,
        )

    def undo(
        self, routed: Routed, event: ReturnEvent | VoidEvent, raw_sale: bytes, snapshot: Snapshot, identity: tuple[str, str]
    ) -> Posting:
        """What a return or void takes back; the account is the sale's, whoever brought the goods."""
        sale = decode_record(raw_sale)
        if not isinstance(sale, Posting) or sale.kind != "sale":
            path = "$.data.receipt_id" if isinstance(event, VoidEvent) else "$.data.original_receipt_id"
            raise Malformed("not_a_sale", path, "names a return; only a sale can be returned or voided")
        before = snapshot.returned.get(sale.posting_id, Returned())
        if isinstance(event, ReturnEvent):
            self.check_currency(event.data)
            undo = undo_lines(sale, before, event.data.lines)
        else:
            undo = undo_rest(sale, before)
        moment = occurred(event)
        return Posting(
            posting_id=identity[0],
            kind="return" if isinstance(event, ReturnEvent) else "void",
            account_id=sale.account_id,
            source=event.source,
            event_id=event.id,
            receipt_id=event.data.receipt_id,
            digest=identity[1],
            offset=routed.offset,
            occurred_at=moment.isoformat(),
            day=moment.astimezone(self.zone).date().isoformat(),
            program_version=sale.program_version,
            line_no=undo.line_no,
            amount=undo.amount,
            quantity_milli=undo.quantity_milli,
            entries=undo.entries,
            reverses_posting=sale.posting_id,
        )

    def tick(self, routed: Routed, event: TickEvent, snapshot: Snapshot) -> Iterator[bytes]:
        """The tick itself where it is the latest so far, so that the ledger alone tells how far the clock has come (G5); then the expiry
        that it makes due, one posting per account of the snapshot, in the order of the account ids.
        """
        if snapshot.as_of is None or snapshot.as_of < event.data.date.isoformat():
            yield record_in(snapshot, tick_posting(event, routed.offset, None, []))
        for account_id in sorted(snapshot.accounts):
            due = list(expiries(snapshot.accounts[account_id], snapshot.as_of))
            if due:
                yield record_in(snapshot, tick_posting(event, routed.offset, account_id, due))

    def keep(self, posting: Posting, snapshot: Snapshot, *, closes: bool) -> bytes:
        """Checks a posting against overflow, completes it by the expiry that it makes due, applies it and gives its record."""
        entries = posting.entries
        if posting.account_id is not None and entries:
            units = snapshot.units(posting.account_id)
            check_overflow(entries, {name: holding.balance for name, holding in units.items()})
            entries = [*entries, *expiries_after(units, entries, snapshot.as_of)]
        return record_in(snapshot, msgspec.structs.replace(posting, entries=entries, closes=closes))

    def check_currency(self, receipt: Sale | Return) -> None:
        currency = self.program.program.currency
        if receipt.currency != currency:
            raise Malformed("currency", "$.data.currency", f"{receipt.currency} is not the program's {currency}")

    def expiries_from(self, day: date) -> dict[str, str | None]:
        """The last day of use per unit for points earned on `day`; remembered, since receipts come by the day."""
        found = self.expiries.get(day)
        if found is None:
            if len(self.expiries) >= DAYS_MAX:
                self.expiries.clear()
            last_days = {name: expires_on(unit.expires, day) for name, unit in self.program.units.items()}
            found = {name: None if last is None else last.isoformat() for name, last in last_days.items()}
            self.expiries[day] = found
        return found


def record_in(snapshot: Snapshot, record: Posting | Waiting | Refused) -> bytes:
    """Applies a ledger record to the snapshot and gives its bytes."""
    raw = encode_record(record)
    snapshot.apply(record, raw)
    return raw


def check_overflow(entries: list[Entries], balances: dict[str, int]) -> None:
    """A balance beyond 64 bits is an error, never a wrong number."""
    for group in entries:
        balances[group.unit] = balances.get(group.unit, 0) + sum(group.points)
        if abs(balances[group.unit]) > INT64_MAX:
            raise Malformed("overflow", "$.data", f"the balance of {group.unit} would not fit 64 bits")
