"""Events into postings: what each receipt, return, void, tick or use of points does to its account (DESIGN.md §5).

In: routed events, decoded, in the order of their partition, and a `Snapshot` with what they name. Out, per event, one outcome: `accepted`
or `waiting` (its sale has not come) with a ledger record, `duplicate`, or `refused` with a reason. The snapshot moves along.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from itertools import groupby
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from tillstream.kernels.award import Awards, Kernel
from tillstream.kernels.bonuses import Bonuses
from tillstream.kernels.columns import gather
from tillstream.kernels.crediting import credit, credit_plain
from tillstream.kernels.earning import accruals, holding_days, pending_first
from tillstream.kernels.expiry import expires_on
from tillstream.kernels.holdings import Units
from tillstream.kernels.keys import digest_of, occurred
from tillstream.kernels.kin_holds import makes, on_own_account, releases_elsewhere
from tillstream.kernels.lapsing import due, due_after, tick_posting, written_off
from tillstream.kernels.occasions import Occasions
from tillstream.kernels.plain import PlainSale, PlainSales, Scanner
from tillstream.kernels.routed import SCANNED_WITH, AnyRouted, Follow, Outcome, Routed, decoded
from tillstream.kernels.rules import CompiledRules
from tillstream.kernels.set_aside import held_points, pending_points
from tillstream.kernels.snapshot import Returned, Snapshot
from tillstream.kernels.spending import POSTING_KINDS, spend
from tillstream.kernels.tenders import tender_entries
from tillstream.kernels.undoing import undo_lines, undo_rest
from tillstream.kernels.writing import Fragments, SaleWriter, fragments
from tillstream.schemas.events import (
    ROUTED_BYTES_MAX,
    AccountEvent,
    Malformed,
    ReleaseEvent,
    ReturnEvent,
    SaleEvent,
    SpendingEvent,
    TickEvent,
    VoidEvent,
    decode,
)
from tillstream.schemas.fields import INT64_MAX
from tillstream.schemas.ledger import Entries, Posting, Refused, Waiting, decode_record, encode_record
from tillstream.schemas.program_file import Versioned
from tillstream.schemas.programs import Rule
from tillstream.schemas.receipts import Return, Sale

DAYS_MAX = 4_000
"""Local dates whose expiry dates are remembered: ten years of them."""


class Earned(NamedTuple):
    """What the rules give one sale: its place in the batch's awards; and its local date."""

    awards: Awards
    place: int
    day: date

    @property
    def overflows(self) -> bool:
        """Whether a sum does not fit 64 bits."""
        return bool(self.awards.status[self.place])


class DayTerms(NamedTuple):
    """What is the same for all sales of one local date: its ISO text, last days of use per unit, and constant parts of records."""

    text: str
    expiries: dict[str, str | None]
    soonest: str | None
    fragments: Fragments

    def expired(self, as_of: str | None) -> bool:
        """Whether some of what such a sale earns has expired as of the latest tick."""
        return as_of is not None and self.soonest is not None and self.soonest < as_of


class Poster:
    """Judges events by one program; `also` are goods that other versions look for (rules.py)."""

    def __init__(self, program: Versioned, also: Mapping[str, Rule] | None = None) -> None:
        self.program, self.version = program
        self.zone = ZoneInfo(self.program.program.time_zone)
        self.compiled = CompiledRules(self.program, also)
        self.kernel = Kernel(self.compiled)
        self.writer = SaleWriter(self.version)
        self.scanner = Scanner(self.compiled, self.zone, self.program.program.currency)
        self.terms: dict[date, DayTerms] = {}
        self.holding_days = holding_days(self.program)
        self.occasions = Occasions(self.program, Bonuses(self.program), self.zone, self.version)

    def post(self, batch: Sequence[AnyRouted], snapshot: Snapshot) -> list[Outcome]:
        """The outcomes in order, each sale's followed by those of what waited for it; the snapshot has everything applied on return."""
        outcomes: list[Outcome] = []
        for scanned, some in groupby(batch, SCANNED_WITH):
            if scanned is None:
                outcomes.extend(self.post_decoded(list(some), snapshot))  # type: ignore[arg-type]
            else:
                outcomes.extend(self.post_scanned(scanned, list(some), snapshot))  # type: ignore[arg-type]
        return outcomes

    def post_scanned(self, scanned: PlainSales, sales: list[PlainSale], snapshot: Snapshot) -> list[Outcome]:
        """Sales of one scan; one that is known, waited for or too large is decoded after all."""

        def judge(sale: PlainSale) -> list[Outcome]:
            return self.post_decoded([decoded(sale)], snapshot)

        awards = scanned.awards(self.kernel)
        return credit_plain(sales, awards, self.terms_of, self.writer.behind_day, self.compiled.units, snapshot, judge)

    def post_decoded(self, batch: Sequence[Routed], snapshot: Snapshot) -> list[Outcome]:
        """What `post` does with events that were decoded."""
        earned = self.earn([routed.event for routed in batch if isinstance(routed.event, SaleEvent)])
        outcomes: list[Outcome] = []
        for routed in batch:
            if isinstance(routed.event, TickEvent):
                outcomes.append(Outcome(routed, "accepted", list(self.tick(routed, routed.event, snapshot))))
            elif isinstance(routed.event, SaleEvent):
                outcomes.extend(self.post_sale(routed, routed.event, next(earned), snapshot))
            elif isinstance(routed.event, ReturnEvent | VoidEvent):
                outcomes.append(self.post_undo(routed, routed.event, snapshot))
            elif isinstance(routed.event, SpendingEvent):
                outcomes.append(self.post_spending(routed, routed.event, snapshot))
            else:
                outcomes.append(self.post_fact(routed, snapshot))
        return outcomes

    def earn(self, sales: Sequence[SaleEvent]) -> Iterator[Earned]:
        """The kernel's awards for a batch of sales."""
        columns = gather(self.compiled, [sale.data for sale in sales], self.zone)
        awards = self.kernel.award(*columns[:-1])
        for place, day in enumerate(columns.dates):
            yield Earned(awards, place, day)

    def post_sale(self, routed: Routed, event: SaleEvent, earned: Earned, snapshot: Snapshot) -> Iterator[Outcome]:
        """A sale, then the returns and voids that waited for it, by their time and key, whatever order they came in."""
        digest = digest_of(event)
        waiting = snapshot.waiting[routed.key].copy() if routed.key in snapshot.waiting else {}
        try:
            if (known := snapshot.postings.get(routed.key)) is not None:
                yield self.known_before(routed, known, digest)
                return
            self.check_sale(event.data, earned)
            elsewhere = snapshot.holds_elsewhere(routed.account_id or "")
            records = self.sale_records(routed, event, earned, snapshot, digest, closes=not waiting)
            yield Outcome(routed, "accepted", records, follow=releases_of(records, elsewhere) if elsewhere else ())
        except Malformed as problem:
            yield Outcome(routed, "refused", problem=problem)
            return
        late = [Routed(decode(raw, ROUTED_BYTES_MAX), routed.account_id, routed.offset, raw) for raw in waiting.values()]  # type: ignore[arg-type]
        late.sort(key=lambda item: (occurred(item.event), item.key))  # type: ignore[arg-type]
        for index, item in enumerate(late):
            yield self.post_undo(item, item.event, snapshot, waited=True, closes=index == len(late) - 1)  # type: ignore[arg-type]

    def post_undo(
        self, routed: Routed, event: ReturnEvent | VoidEvent, snapshot: Snapshot, *, waited: bool = False, closes: bool = True
    ) -> Outcome:
        """A return or void: takes back what its sale gave, or waits for it."""
        key, digest, sale_key = routed.key, digest_of(event), routed.sale_key
        try:
            if (known := snapshot.postings.get(key) or snapshot.waiting.get(sale_key, {}).get(key)) is not None:
                return self.known_before(routed, known, digest)
            if (sale := snapshot.postings.get(sale_key)) is None:
                raw = msgspec.Raw(routed.raw.strip())  # A reader of the record sees no white space around it either (G5).
                waiting = Waiting(key, sale_key, digest, routed.offset, occurred(event).isoformat(), raw)
                return Outcome(routed, "waiting", [record_in(snapshot, waiting)])
            posting = self.undo(routed, event, sale, snapshot, (key, digest))
            return Outcome(routed, "accepted", self.undo_records(posting, snapshot, closes=closes), waited=waited)
        except Malformed as problem:
            refused = Refused(key, sale_key, problem.code, routed.offset, occurred(event).isoformat(), closes)
            return Outcome(routed, "refused", [record_in(snapshot, refused)] if waited else (), problem, waited)

    def post_fact(self, routed: Routed, snapshot: Snapshot) -> Outcome:
        """An activity, an enrolment, segments, a merge, or what follows from one."""
        posting = self.occasions.posting(routed)
        try:
            if (known := snapshot.postings.get(routed.key)) is not None:
                return self.known_before(routed, known, posting.digest)
            return Outcome(routed, "accepted", self.fact_records(posting, snapshot))
        except Malformed as problem:
            return Outcome(routed, "refused", problem=problem)

    def fact_records(self, posting: Posting, snapshot: Snapshot) -> list[bytes]:
        """What an activity, enrolment or segments write to the ledger, applied: that it happened."""
        return [self.keep(posting, snapshot, closes=True)]

    def post_spending(self, routed: Routed, event: SpendingEvent, snapshot: Snapshot) -> Outcome:
        """Points held, released, redeemed, adjusted or moved."""
        digest, account_id = digest_of(event), routed.account_id or ""
        try:
            if (known := snapshot.postings.get(routed.key)) is not None:
                return self.known_before(routed, known, digest)
            day = event.time.astimezone(self.zone).date()
            elsewhere = snapshot.holds_elsewhere(account_id)
            units = snapshot.group_units(account_id)
            if isinstance(event, ReleaseEvent) and makes(snapshot.units(account_id), event.data.hold_id):
                units = snapshot.units(account_id)
            spent = spend(self.program, event, routed.key, account_id, units, day)
            posting = Posting(
                posting_id=routed.key,
                kind=POSTING_KINDS[type(event)],
                account_id=account_id,
                source=event.source,
                event_id=event.id,
                receipt_id=None,
                digest=digest,
                offset=routed.offset,
                occurred_at=event.time.isoformat(),
                day=day.isoformat(),
                program_version=self.version,
                line_no=[],
                amount=[],
                quantity_milli=[],
                entries=on_own_account(spent.entries, elsewhere),
            )
            follow = [*spent.follow, *releases_elsewhere(posting.entries, elsewhere, routed.key, event.time)]
            return Outcome(routed, "accepted", [self.keep(posting, snapshot, closes=True)], follow=follow)
        except Malformed as problem:
            return Outcome(routed, "refused", problem=problem)

    def known_before(self, routed: Routed, known: bytes, digest: str) -> Outcome:
        """G2: the same key and data is a duplicate, the same key with other data a conflict.

        Raises:
            Malformed: a conflict.
        """
        earlier = decode_record(known) if known.startswith(b'{"type":"ledger.') else decode(known, ROUTED_BYTES_MAX)
        if digest == (earlier.digest if isinstance(earlier, Posting) else digest_of(earlier)):  # type: ignore[arg-type]
            return Outcome(routed, "duplicate")
        event: AccountEvent = routed.event  # type: ignore[assignment]
        receipt_id = getattr(event.data, "receipt_id", None)
        what = f"event {event.id!r}" if receipt_id is None else f"receipt {receipt_id!r}"
        message = f"{what} of source {event.source!r} is known with other data"
        raise Malformed("conflict", "$.data", message)

    def check_sale(self, sale: Sale, earned: Earned) -> None:
        """Raises Malformed where a sale can't be judged: its sums overflow, or it is in another currency."""
        if earned.overflows:
            raise Malformed("overflow", "$.data.lines", "the receipt's sums or points do not fit 64 bits")
        self.check_currency(sale)

    def sale_records(
        self, routed: Routed, event: SaleEvent, earned: Earned, snapshot: Snapshot, digest: str, *, closes: bool
    ) -> list[bytes]:
        """What a sale writes to the ledger, applied."""
        terms = self.terms_of(earned.day)
        if closes and not self.holding_days and is_plain(event.data, routed.account_id, terms, snapshot.as_of):
            return [self.plain_sale(routed, event, earned, snapshot, digest)]
        return [self.keep(self.sale(routed, event, earned, snapshot, digest), snapshot, closes=closes)]

    def undo_records(self, posting: Posting, snapshot: Snapshot, *, closes: bool) -> list[bytes]:
        """What a return or void writes to the ledger, applied."""
        return [self.keep(posting, snapshot, closes=closes)]

    def plain_sale(self, routed: Routed, event: SaleEvent, earned: Earned, snapshot: Snapshot, digest: str) -> bytes:
        """The record of a sale that only earns, applied: what `sale` and `keep` do, without the objects in between."""
        terms, account_id = self.terms_of(earned.day), routed.account_id or ""
        said = self.writer.values(routed.key.encode(), digest.encode(), account_id, routed.offset, event, terms.text.encode())
        record, totals = earned.awards.record(earned.place, said, terms.fragments)
        units = snapshot.units(account_id)
        for number, points in totals:
            unit = self.compiled.units[number]
            check_room(unit, units, points)
        credit(snapshot, account_id, [(self.compiled.units[number], points) for number, points in totals], terms.expiries)
        snapshot.hold(routed.key, terms.text, record)
        return record

    def sale(self, routed: Routed, event: SaleEvent, earned: Earned, snapshot: Snapshot, digest: str) -> Posting:
        """What a sale takes and gives; an anonymous one neither."""
        terms = self.terms_of(earned.day)
        posting = self.bare_sale(routed, event, terms, snapshot, digest)
        if routed.account_id is not None:
            given = earned.awards.given(earned.place)
            entries = accruals(self.compiled.rules, event.data.lines, given, terms.expiries)
            posting.entries.extend(pending_first(entries, self.holding_days, earned.day))
        return posting

    def bare_sale(self, routed: Routed, event: SaleEvent, terms: DayTerms, snapshot: Snapshot, digest: str) -> Posting:
        """A sale, and the points that it takes; what it gives is still to be added."""
        sale = event.data
        entries: list[Entries] = []
        if routed.account_id is not None:
            taken = tender_entries(self.program, sale, snapshot.group_units(routed.account_id), terms.text)
            entries += on_own_account(taken, snapshot.holds_elsewhere(routed.account_id))
        return Posting(
            posting_id=routed.key,
            kind="sale",
            account_id=routed.account_id,
            source=event.source,
            event_id=event.id,
            receipt_id=sale.receipt_id,
            digest=digest,
            offset=routed.offset,
            occurred_at=sale.issued_at.isoformat(),
            day=terms.text,
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
            undo = undo_lines(sale, before, event.data.lines, snapshot.as_of)
        else:
            undo = undo_rest(sale, before, snapshot.as_of)
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
        """The releases and the expiry that a `clock.tick` makes due, one posting per account of the snapshot, in the order of their ids.

        The snapshot may hold some accounts only. So the record that closes the tick, `tick_posting` for no account, by which the ledger
        alone tells how far the clock has come (G5), is the caller's to add once all accounts were dealt with.
        """
        day = event.data.date.isoformat()
        snapshot.as_of = max(snapshot.as_of or day, day)
        for account_id in sorted(snapshot.accounts):
            if entries := due(snapshot.accounts[account_id], snapshot.as_of, snapshot.kin(account_id)):
                yield self.tick_record(tick_posting(event, routed.offset, account_id, entries), snapshot)

    def tick_record(self, posting: Posting, snapshot: Snapshot) -> bytes:
        """The record of what fell due for one account, applied."""
        return record_in(snapshot, posting)

    def keep(self, posting: Posting, snapshot: Snapshot, *, closes: bool) -> bytes:
        """Completes a posting by what follows from it, checks it against overflow, applies it and gives its record."""
        entries = posting.entries
        if posting.account_id is not None:
            units = snapshot.units(posting.account_id)
            entries = self.completed(posting, units, snapshot)
            check_overflow(entries, units)
        return record_in(snapshot, msgspec.structs.replace(posting, entries=entries, closes=closes))

    def completed(self, posting: Posting, units: Units, snapshot: Snapshot) -> list[Entries]:
        """The entries of a posting, what is written off of them, and what falls due."""
        entries = posting.entries
        if not entries:
            return entries
        kin = snapshot.kin(posting.account_id or "")
        entries = [*entries, *written_off(self.program, units, entries, snapshot.as_of, kin)]
        return [*entries, *due_after(units, entries, snapshot.as_of, kin)]

    def check_currency(self, receipt: Sale | Return) -> None:
        currency = self.program.program.currency
        if receipt.currency != currency:
            raise Malformed("currency", "$.data.currency", f"{receipt.currency} is not the program's {currency}")

    def terms_of(self, day: date) -> DayTerms:
        """The terms of a local date; remembered, since receipts come by the day."""
        found = self.terms.get(day)
        if found is None:
            if len(self.terms) >= DAYS_MAX:
                self.terms.clear()
            last_days = {name: expires_on(unit.expires, day) for name, unit in self.program.units.items()}
            expiries = {name: None if last is None else last.isoformat() for name, last in last_days.items()}
            soonest = min((expiry for expiry in expiries.values() if expiry is not None), default=None)
            found = DayTerms(day.isoformat(), expiries, soonest, fragments(self.compiled.rules, expiries))
            self.terms[day] = found
        return found


def is_plain(sale: Sale, account_id: str | None, terms: DayTerms, as_of: str | None) -> bool:
    """Whether a sale only earns: it has an account and no points tender, and what it earns has not expired as of the latest tick.

    Points that expire no sooner than that leave what earlier lots have expired as it is: spending takes those first.
    """
    if account_id is None or terms.expired(as_of):
        return False
    return "points" not in [tender.type for tender in sale.tenders]


def releases_of(records: Sequence[bytes], elsewhere: Mapping[str, str]) -> list[Follow]:
    """What tells other accounts that their holds have ended, by a sale's ledger records."""
    sale = decode_record(records[0])
    if not isinstance(sale, Posting):
        return []
    return releases_elsewhere(sale.entries, elsewhere, sale.posting_id, datetime.fromisoformat(sale.occurred_at))


def record_in(snapshot: Snapshot, record: Posting | Waiting | Refused) -> bytes:
    """Applies a ledger record to the snapshot and gives its bytes."""
    raw = encode_record(record)
    snapshot.apply(record, raw)
    return raw


def check_overflow(entries: list[Entries], units: Units) -> None:
    """A balance beyond 64 bits, or one that would be with all that is pending and held, is an error, never a wrong number."""
    balances = {name: holding.balance for name, holding in units.items()}
    aside = {name: pending_points(holding) + held_points(holding) for name, holding in units.items()}
    for group in entries:
        points = sum(group.points)
        balances[group.unit] = balances.get(group.unit, 0) + points
        if group.kind in {"hold", "release"}:
            aside[group.unit] = aside.get(group.unit, 0) - points
        balance = balances[group.unit]
        if max(abs(balance), abs(balance + aside.get(group.unit, 0))) > INT64_MAX:
            raise overflow(group.unit)


def check_room(unit: str, units: Units, more: int) -> None:
    """The same, where points are only added."""
    holding = units.get(unit)
    if holding is not None:
        more += holding.balance + max(0, pending_points(holding) + held_points(holding))
    if more > INT64_MAX:
        raise overflow(unit)


def overflow(unit: str) -> Malformed:
    return Malformed("overflow", "$.data", f"the balance of {unit} would not fit 64 bits")
