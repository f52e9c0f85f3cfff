"""Postings of a program that looks at members: tiers, purchase history, caps per member, budgets, bonuses (see `Poster` for all else).

An event in the order of its account takes one step from the state behind the last one (fold.py). One that comes late has all events of the
account judged again (refold.py): it gets its posting, and every earlier posting whose rules now stand elsewhere a correction.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import NamedTuple

from msgspec import structs

from tillstream.kernels.award import Awards
from tillstream.kernels.columns import Columns, gather
from tillstream.kernels.dues import Due, Dues
from tillstream.kernels.exchange import Exchanges
from tillstream.kernels.facts import Facts
from tillstream.kernels.fold import Fold, Sold, position_at
from tillstream.kernels.looking import Looks
from tillstream.kernels.member_rules import Given, MemberRules
from tillstream.kernels.moving import Moved
from tillstream.kernels.posted import judged_at, one_of
from tillstream.kernels.posting import Earned, Poster, is_plain, overflow
from tillstream.kernels.refold import Refold, is_late, summed
from tillstream.kernels.room import Allowance, Budgets, Table
from tillstream.kernels.routed import Outcome, Routed
from tillstream.kernels.sheets import entries_between, line_numbers, sheet_of_posting
from tillstream.kernels.snapshot import Returned, Snapshot
from tillstream.kernels.watching import Watched
from tillstream.kernels.writing import behind_entries
from tillstream.schemas.events import ActivityEvent, EnrolledEvent, Malformed, SaleEvent, TickEvent
from tillstream.schemas.fields import INT64_MAX
from tillstream.schemas.ledger import Entries, Posting, decode_record
from tillstream.schemas.member_state import Judged, Look, Member, Sheet
from tillstream.schemas.program_file import Versioned


class Run(NamedTuple):
    """Sales of accounts that are all different, in columns, and what their members' states mean for them."""

    columns: Columns
    looks: Looks
    watched: Watched


class MemberEarned(NamedTuple):
    """What the rules give one sale under its member's state, at which place of which run, and the state on its way; as `Earned`."""

    awards: Awards
    place: int
    day: date
    run: Run
    fold: Fold | None

    @property
    def overflows(self) -> bool:
        """Whether a sum does not fit 64 bits."""
        return bool(self.awards.status[self.place])


class Step(NamedTuple):
    """A sale's step in its member's state: what it is, what it gave, and under which look to judge it again on a return, if so."""

    sold: Sold
    moved: Moved
    look: Look | None


class MemberPoster(Poster):
    """Judges events by one program that looks at members."""

    def __init__(self, program: Versioned, budgets: Budgets | None = None) -> None:
        super().__init__(program)
        self.budgets: Budgets = Table() if budgets is None else budgets
        self.rules = MemberRules(self.program, self.compiled, self.kernel)
        self.named = {rule.id: rule for rule in self.program.rules}
        self.dues = Dues(self.program)
        self.exchanges = Exchanges(self.program)
        self.facts = Facts(self.program, self.rules.bonuses, self.zone, self.version)

    def post(self, batch: Sequence[Routed], snapshot: Snapshot) -> list[Outcome]:
        """As `Poster.post`. Sales of different accounts that follow each other go through the kernel together."""
        outcomes: list[Outcome] = []
        for run in runs(batch):
            if not isinstance(run[0].event, SaleEvent):
                outcomes += self.post_other(run[0], snapshot)
                continue
            for routed, earned in zip(run, self.earn_run(run, snapshot), strict=True):
                outcomes += self.post_sale(routed, routed.event, earned, snapshot)  # type: ignore[arg-type]
        return outcomes

    def post_other(self, routed: Routed, snapshot: Snapshot) -> list[Outcome]:
        """One event that is no sale."""
        if not isinstance(routed.event, ActivityEvent | EnrolledEvent):
            return super().post([routed], snapshot)
        posting = self.facts.posting(routed)
        if (known := snapshot.postings.get(routed.key)) is not None:
            try:
                return [self.known_before(routed, known, posting.digest)]
            except Malformed as problem:
                return [Outcome(routed, "refused", problem=problem)]
        try:
            return [Outcome(routed, "accepted", self.bonus_records(posting, snapshot))]
        except Malformed as problem:
            return [Outcome(routed, "refused", problem=problem)]

    def earn_run(self, run: Sequence[Routed], snapshot: Snapshot) -> Iterator[MemberEarned]:
        """The kernel's awards for sales of accounts that are all different, each under its member's state."""
        columns = gather(self.compiled, [routed.event.data for routed in run], self.zone)  # type: ignore[union-attr]
        folds = [None if routed.account_id is None else self.fold(snapshot.members.get(routed.account_id)) for routed in run]
        for fold, day in zip(folds, columns.dates, strict=True):
            if fold is not None:
                fold.reach(day)
        looks = self.rules.look(columns, [None if fold is None else fold.member for fold in folds], columns.dates, self.budgets)
        awards = self.rules.award(columns, looks)
        together = Run(columns, looks, self.rules.counting.watching.over(columns))
        for place, (day, fold) in enumerate(zip(columns.dates, folds, strict=True)):
            yield MemberEarned(awards, place, day, together, fold)

    def fold(self, member: Member | None) -> Fold:
        """A state to move on, on a budget of its own until its postings are kept."""
        return Fold(self.rules, self.zone, Allowance(self.budgets, {}), member)

    def sale_records(  # type: ignore[override]
        self, routed: Routed, event: SaleEvent, earned: MemberEarned, snapshot: Snapshot, digest: str, *, closes: bool
    ) -> list[bytes]:
        """What a sale writes to the ledger, applied."""
        fold, terms = earned.fold, self.terms_of(earned.day)
        if fold is None:
            return super().sale_records(routed, event, Earned(*earned[:3]), snapshot, digest, closes=closes)
        watched, place, moment = earned.run.watched, earned.place, event.data.issued_at
        sold = Sold(earned.day, watched.total(place), watched.counts(place), position_at(moment, routed.key), moment.isoformat())
        if sold.position < fold.member.last:
            bare = self.bare_sale(routed, event, terms, snapshot, digest)
            return self.late_records(structs.replace(bare, judged=self.judged(earned)), snapshot, closes=closes)
        sums = earned.awards.sums(place)
        moved = self.rules.counting.mover.gives(sums)
        if self.overspends(moved.budgets):
            earned = self.earned_again(earned, fold)
            self.check_sale(event.data, earned)
            sums = earned.awards.sums(earned.place)
            moved = self.rules.counting.mover.gives(sums)
        bonuses = fold.sale(sold, sums, moved.budgets)
        step = Step(sold, moved, self.rules.look_at(earned.run.looks, earned.place) if moved.again else None)
        if closes and not bonuses and is_plain(event.data, routed.account_id, terms, snapshot.as_of):
            units = snapshot.units(routed.account_id or "")
            if not self.dues_until(fold, sold.day, snapshot) and not self.exchanges.possible(units, moved.units):
                return [self.swift_sale(routed, event, earned, fold, step, snapshot, digest)]
        bare = self.bare_sale(routed, event, terms, snapshot, digest)
        given = [*self.rules.given(earned.awards, earned.place, bare.line_no), *bonuses]
        entries = [*bare.entries, *self.accruals(given, bare)]
        posting = structs.replace(bare, judged=self.judged(earned), entries=entries, look=step.look)
        return self.finish([posting], fold, snapshot, closes=closes)

    def swift_sale(
        self, routed: Routed, event: SaleEvent, earned: MemberEarned, fold: Fold, step: Step, snapshot: Snapshot, digest: str
    ) -> bytes:
        """The record of a sale in order that only earns, applied: what `sale_records` does else, without the objects in between."""
        account_id, terms, units = routed.account_id or "", self.terms_of(earned.day), step.moved.units
        holdings = snapshot.units(account_id)
        for unit, points in units.items():
            if (holdings[unit].balance if unit in holdings else 0) + points > INT64_MAX:
                raise overflow(unit)
        passed = max(as_of_day(snapshot), fold.member.dues_until)
        fold.member.next_due = self.dues.next_after_sale(fold.member, earned.day.toordinal(), passed)
        said = self.writer.values(routed.key.encode(), digest.encode(), account_id, routed.offset, event, terms.text.encode())
        behind = behind_entries(earned.run.watched.judged(earned.place), fold.member, step.look)
        record, _ = earned.awards.record(earned.place, said, terms.fragments, behind)
        snapshot.credit(account_id, units.items(), terms.expiries)
        snapshot.hold(routed.key, terms.text, record)
        snapshot.stand(account_id, fold.member, routed.key, step.sold.occurred_at)
        self.take_budgets(fold)
        return record

    def undo_records(self, posting: Posting, snapshot: Snapshot, *, closes: bool) -> list[bytes]:
        """What a return or void writes to the ledger, applied: the points that paid as ever, the rules' points by their sheet."""
        sale = decode_record(snapshot.postings[posting.reverses_posting or ""])
        if posting.account_id is None or not isinstance(sale, Posting) or sale.judged is None:
            return super().undo_records(posting, snapshot, closes=closes)
        posting = structs.replace(posting, entries=[group for group in posting.entries if group.rule_id is None])
        fold = self.fold(snapshot.members.get(posting.account_id))
        if is_late(posting, fold.member.last):
            return self.late_records(posting, snapshot, closes=closes)
        before = came_back(snapshot.returned.get(sale.posting_id, Returned()))
        old = self.sheet(sale, snapshot)
        new = fold.came_back(posting, sale, old, before, summed(before, posting))
        posting = structs.replace(posting, entries=[*posting.entries, *self.between(sale, old, new)], sheet=new)
        return self.finish([posting], fold, snapshot, closes=closes)

    def bonus_records(self, posting: Posting, snapshot: Snapshot) -> list[bytes]:
        """What an activity or enrolment writes to the ledger, applied."""
        fold = self.fold(snapshot.members.get(posting.account_id or ""))
        if is_late(posting, fold.member.last):
            return self.late_records(posting, snapshot, closes=True)
        given = fold.bonus(posting)
        return self.finish([structs.replace(posting, entries=self.accruals(given, posting))], fold, snapshot, closes=True)

    def tick(self, routed: Routed, event: TickEvent, snapshot: Snapshot) -> Iterator[bytes]:
        """What falls due for each member of the snapshot, then what expires."""
        snapshot.as_of = max(snapshot.as_of or "", event.data.date.isoformat())
        for account_id in sorted(snapshot.members):
            fold = self.fold(snapshot.members[account_id])
            due = self.dues.between(fold.member, fold.member.dues_until, as_of_day(snapshot))
            made = [self.facts.due(account_id, each, routed) for each in due]
            if made and is_late(made[0], fold.member.last):
                yield from self.late_records(made[0], snapshot, closes=False)
            elif made:
                yield from self.finish(self.due_postings(made, fold), fold, snapshot, closes=False)
        yield from super().tick(routed, event, snapshot)

    def late_records(self, late: Posting, snapshot: Snapshot, *, closes: bool) -> list[bytes]:
        """A posting that stands before others of its account, and what it changes of theirs, applied."""
        found = {key: decode_record(snapshot.postings[key]) for key in snapshot.chronicles.get(late.account_id or "", ())}
        known = {key: record for key, record in found.items() if isinstance(record, Posting)}
        old = {key: self.sheet(posting, snapshot) for key, posting in known.items()}
        fold = Fold(self.rules, self.zone, Allowance(self.budgets, self.usage(old.values())))
        refold = Refold(fold, self.dues, lambda due: self.facts.due(late.account_id or "", due, late), as_of_day(snapshot))
        refold.run([*known.values(), late])
        return self.finish(list(self.differences(late, known, old, refold)), fold, snapshot, closes=closes)

    def differences(self, late: Posting, known: dict[str, Posting], old: dict[str, Sheet], refold: Refold) -> Iterator[Posting]:
        """The late event's own posting, what fell due by it, and the corrections, by posting id."""
        undone = late.reverses_posting
        if undone is not None:
            entries = self.between(known[undone], old[undone], refold.sheets[undone])
            yield structs.replace(late, entries=[*late.entries, *entries], sheet=refold.sheets[undone])
        elif late.kind != "due":
            given = self.accruals(refold.given[late.posting_id], late)
            look = refold.sheets[late.posting_id].look
            yield structs.replace(late, entries=[*late.entries, *given], look=look if look != Look() else None)
        for key in sorted(refold.dues.keys() - known.keys()):
            yield structs.replace(refold.dues[key], entries=self.accruals(refold.given[key], refold.dues[key]))
        for key in sorted(old.keys() - {undone}):
            new = refold.sheets.get(key, Sheet({}, {}))
            if not same_sheet(old[key], new):
                yield self.facts.correction(late, known[key], self.between(known[key], old[key], new), new)

    def finish(self, postings: list[Posting], fold: Fold, snapshot: Snapshot, *, closes: bool) -> list[bytes]:
        """Adds what fell due meanwhile, gives the postings the state behind them all, keeps them, and takes from budgets what they gave."""
        first = postings[0]
        due = self.dues_until(fold, date.fromisoformat(first.day), snapshot)
        made = [self.facts.due(first.account_id or "", each, first) for each in due]
        postings = [*postings, *self.due_postings(made, fold)]
        next_due = self.dues.next_after(fold.member, max(as_of_day(snapshot), fold.member.dues_until))
        member = structs.replace(fold.member, next_due=0 if next_due is None else next_due.toordinal())
        last = len(postings) - 1
        records = [
            self.keep(structs.replace(posting, member=member), snapshot, closes=closes and place == last)
            for place, posting in enumerate(postings)
        ]
        self.take_budgets(fold)
        return records

    def take_budgets(self, fold: Fold) -> None:
        """What the fold's postings took, now that they are kept."""
        for rule_id, points in fold.budgets.changes().items():
            self.budgets.moved(self.named[rule_id], points)

    def keep(self, posting: Posting, snapshot: Snapshot, *, closes: bool) -> bytes:
        """As `Poster.keep`, with what is exchanged after the posting."""
        if posting.member is not None and posting.account_id is not None and self.exchanges.rules:
            expiries = self.terms_of(date.fromisoformat(posting.day)).expiries
            units = snapshot.units(posting.account_id)
            exchanged = self.exchanges.due(units, posting.entries, posting.member, posting.day, expiries)
            posting = structs.replace(posting, entries=[*posting.entries, *exchanged])
        return super().keep(posting, snapshot, closes=closes)

    def due_postings(self, made: Iterable[Posting], fold: Fold) -> list[Posting]:
        """The postings of what falls due, with what the rules give for each."""
        return [structs.replace(posting, entries=self.accruals(fold.bonus(posting), posting)) for posting in made]

    def accruals(self, given: Iterable[Given], posting: Posting) -> list[Entries]:
        """What rules give, as entries of a posting of its date."""
        expiries = self.terms_of(date.fromisoformat(posting.day)).expiries
        return [
            Entries(
                kind="accrual",
                unit=self.named[each.rule_id].unit,
                points=each.points,
                line_no=line_numbers(each.line_no),
                rule_id=each.rule_id,
                expires_on=expiries[self.named[each.rule_id].unit],
                basis=each.basis,
                award=each.award,
            )
            for each in given
        ]

    def between(self, posting: Posting, old: Sheet, new: Sheet) -> list[Entries]:
        """The entries that lead the rules of a posting from one sheet to another."""
        expiries = self.terms_of(date.fromisoformat(posting.day)).expiries
        return list(entries_between(posting, old, new, self.named, expiries))

    def sheet(self, posting: Posting, snapshot: Snapshot) -> Sheet:
        """What the rules of a posting stand at now."""
        found = snapshot.sheets.get(posting.posting_id)
        return sheet_of_posting(posting, self.named) if found is None else found

    def usage(self, sheets: Iterable[Sheet]) -> dict[str, int]:
        """What events took from budgets, by rule."""
        used: dict[str, int] = {}
        for sheet in sheets:
            for rule_id, lines in sheet.given.items():
                back = sum(sheet.undone.get(rule_id, {}).values()) if self.rules.counting.gives_back(rule_id) else 0
                used[rule_id] = used.get(rule_id, 0) + sum(lines.values()) - back
        return {rule_id: points for rule_id, points in used.items() if rule_id in self.named and self.named[rule_id].cap.budget is not None}

    def judged(self, earned: MemberEarned) -> Judged:
        """What a sale was judged by."""
        return judged_at(earned.run.columns, self.compiled.words, earned.place)

    def overspends(self, budgets: Iterable[tuple[str, int]]) -> bool:
        """Whether others of the same run have meanwhile taken from a budget what a sale was promised."""
        return any(points > self.budgets.left(self.named[rule_id]) for rule_id, points in budgets)

    def earned_again(self, earned: MemberEarned, fold: Fold) -> MemberEarned:
        """The sale judged once more, by itself, under what is left of the budgets now."""
        columns = one_of(earned.run.columns, self.compiled.words, earned.place)
        looks = self.rules.look(columns, [fold.member], [earned.day], self.budgets)
        alone = Run(columns, looks, self.rules.counting.watching.over(columns))
        return MemberEarned(self.rules.award(columns, looks), 0, earned.day, alone, fold)

    def dues_until(self, fold: Fold, day: date, snapshot: Snapshot) -> list[Due]:
        """What fell due between an event on `day` and the latest tick."""
        return self.dues.between(fold.member, max(fold.member.dues_until, day.toordinal()), as_of_day(snapshot))


def runs(batch: Sequence[Routed]) -> Iterator[list[Routed]]:
    """The batch cut into sales of accounts that are all different, and single other events."""
    run: list[Routed] = []
    accounts: set[str] = set()
    for routed in batch:
        is_sale = isinstance(routed.event, SaleEvent)
        if run and (not is_sale or routed.account_id in accounts):
            yield run
            run, accounts = [], set()
        if not is_sale:
            yield [routed]
            continue
        run.append(routed)
        if routed.account_id is not None:
            accounts.add(routed.account_id)
    if run:
        yield run


def came_back(returned: Returned) -> dict[int, tuple[int, int]]:
    """Amount and quantity that came back, by line number."""
    return {number: (amount, returned.quantity_milli.get(number, 0)) for number, amount in returned.amount.items()}


def as_of_day(snapshot: Snapshot) -> int:
    """The date of the latest tick, 0 before the first."""
    return date.fromisoformat(snapshot.as_of).toordinal() if snapshot.as_of else 0


def same_sheet(old: Sheet, new: Sheet) -> bool:
    """Whether two sheets say the same of every line."""
    return old.look == new.look and all(
        {rule: kept for rule, lines in one.items() if (kept := {n: p for n, p in lines.items() if p})}
        == {rule: kept for rule, lines in other.items() if (kept := {n: p for n, p in lines.items() if p})}
        for one, other in ((old.given, new.given), (old.undone, new.undone))
    )
