"""Postings of a program that looks at members: tiers, purchase history, caps per member, budgets, bonuses (see `Poster` for all else).

An event in the order of its account takes one step from the state behind the last one (fold.py). One that comes late has all events of the
account judged again (refold.py): it gets its posting, and every earlier posting whose rules now stand elsewhere a correction.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import NamedTuple, Protocol

from msgspec import structs

from tillstream.kernels.asked import Asked
from tillstream.kernels.award import Awards
from tillstream.kernels.columns import Columns, gather
from tillstream.kernels.counting import day_of
from tillstream.kernels.crediting import credit
from tillstream.kernels.crediting_members import credit_members
from tillstream.kernels.dues import CLOCK, Due, Dues, earliest
from tillstream.kernels.earning import pending_first, pending_too
from tillstream.kernels.exchange import Exchanges
from tillstream.kernels.fold import Fold, Position, Sold, copied, instant_text, midnight, position_at
from tillstream.kernels.handing import place_key, says_nothing_new
from tillstream.kernels.holdings import Units, sum_of
from tillstream.kernels.keys import occurred
from tillstream.kernels.kin import ALONE
from tillstream.kernels.lapsing import due_after
from tillstream.kernels.looking import Looks
from tillstream.kernels.member_rules import Given, MemberRules
from tillstream.kernels.moving import Moved
from tillstream.kernels.plain import PlainSale
from tillstream.kernels.posted import judged_at, one_of
from tillstream.kernels.posting import Earned, Poster, check_room, is_plain
from tillstream.kernels.refold import Refold, Versions, is_late, summed
from tillstream.kernels.room import Allowance, Budgets
from tillstream.kernels.routed import AnyRouted, Follow, Outcome, Routed, decoded
from tillstream.kernels.sheets import entries_between, line_numbers, sheet_of_posting
from tillstream.kernels.snapshot import Returned, Snapshot
from tillstream.kernels.tiers import advance
from tillstream.kernels.watching import Watched
from tillstream.kernels.writing import behind_entries, member_text
from tillstream.schemas.events import SaleEvent, TakeoverEvent, TickEvent
from tillstream.schemas.ledger import Entries, Posting, decode_record
from tillstream.schemas.member_state import Judged, Look, Member, Sheet
from tillstream.schemas.program_file import Versioned
from tillstream.schemas.programs import Rule

FIRST = ("", "")
"""Before every event."""


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
    """A sale's step in the state of its account: what it is, what it gave, and under which look to judge it again on a return, if so."""

    account_id: str
    sold: Sold
    moved: Moved
    look: Look | None


class Family(Versions, Protocol):
    """All versions of the programs (posters.py), what they ask for together, and the budgets that they share."""

    budgets: Budgets
    asked: Asked

    def next_due(self, member: Member, after: int) -> int:
        """The first date later than `after` on which something will be due, 0 for none."""


class MemberPoster(Poster):
    """Judges events by one version of a program that looks at members."""

    def __init__(self, program: Versioned, family: Family) -> None:
        super().__init__(program, family.asked.watches)
        self.family = family
        self.rules = MemberRules(self.program, self.compiled, self.kernel, family.asked)
        self.named = {rule.id: rule for rule in self.program.rules}
        self.dues = Dues(self.program)
        self.exchanges = Exchanges(self.program, self.holding_days)
        self.handed: list[Follow] = []

    def post(self, batch: Sequence[AnyRouted], snapshot: Snapshot) -> list[Outcome]:
        """As `Poster.post`. Sales of different accounts that follow each other go through the kernel together."""
        outcomes: list[Outcome] = []
        for run in runs(batch):
            if isinstance(run[0], PlainSale):
                outcomes += self.post_plain(run, snapshot)  # type: ignore[arg-type]
            elif isinstance(run[0].event, SaleEvent):
                outcomes += self.post_run(run, snapshot)  # type: ignore[arg-type]
            else:
                outcomes += self.post_decoded(run, snapshot)  # type: ignore[arg-type]
            if self.handed:
                outcomes[-1] = outcomes[-1]._replace(follow=[*outcomes[-1].follow, *self.handed])
                self.handed = []
        return outcomes

    def post_run(self, run: Sequence[Routed], snapshot: Snapshot) -> Iterator[Outcome]:
        """Sales of accounts that are all different."""
        for routed, earned in zip(run, self.earn_run(run, snapshot), strict=True):
            yield from self.post_sale(routed, routed.event, earned, snapshot)  # type: ignore[arg-type]

    def post_plain(self, run: Sequence[PlainSale], snapshot: Snapshot) -> list[Outcome]:
        """The same of scanned sales; one of which more follows than that it earns is decoded after all."""

        def judge(sale: PlainSale) -> Iterator[Outcome]:
            return self.post_run([decoded(sale)], snapshot)

        days = [sale.day for sale in run]
        columns = run[0].batch.part(run[0].place, len(run), days)
        members = [self.reached(snapshot, sale.account_id, sale.day) for sale in run]
        looks = self.rules.look(columns, members, days, self.family.budgets)
        awards = self.rules.award(columns, looks)
        together = Run(columns, looks, self.rules.counting.watching.over(columns))
        return credit_members(run, members, awards, together, self, snapshot, as_of_day(snapshot), judge)

    def reached(self, snapshot: Snapshot, account_id: str, day: date) -> Member:
        """A member's state to move on, at the beginning of a date."""
        known = snapshot.members.get(account_id)
        member = Member(asked=self.family.asked.mark) if known is None else copied(known)
        if self.program.tiers is not None:
            advance(self.program.tiers, member, min(day.toordinal(), as_of_day(snapshot)))
        return member

    def earn_run(self, run: Sequence[Routed], snapshot: Snapshot) -> Iterator[MemberEarned]:
        """The kernel's awards for sales of accounts that are all different, each under its member's state."""
        sales = [routed.event.data for routed in run]
        columns = gather(self.compiled, sales, self.zone)  # type: ignore[arg-type]
        folds = [None if routed.account_id is None else self.fold(snapshot, routed.account_id) for routed in run]
        for fold, day in zip(folds, columns.dates, strict=True):
            if fold is not None:
                fold.reach(day)
        members = [None if fold is None else fold.member for fold in folds]
        looks = self.rules.look(columns, members, columns.dates, self.family.budgets)
        awards = self.rules.award(columns, looks)
        together = Run(columns, looks, self.rules.counting.watching.over(columns))
        for place, (day, fold) in enumerate(zip(columns.dates, folds, strict=True)):
            yield MemberEarned(awards, place, day, together, fold)

    def fold(self, snapshot: Snapshot, account_id: str | None) -> Fold:
        """An account's state to move on, on a budget of its own until its postings are kept."""
        return Fold(self.rules, self.zone, Allowance(self.family.budgets, {}), as_of_day(snapshot), snapshot.members.get(account_id or ""))

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
            self.check_sale(event.data, Earned(*earned[:3]))
            sums = earned.awards.sums(earned.place)
            moved = self.rules.counting.mover.gives(sums)
        bonuses = fold.sale(sold, sums, moved.budgets)
        step = Step(routed.account_id or "", sold, moved, self.rules.look_at(earned.run.looks, earned.place) if moved.again else None)
        is_swift = closes and not bonuses and is_plain(event.data, routed.account_id, terms, snapshot.as_of)
        if is_swift and self.only_earns(fold, step, snapshot):
            return [self.swift_sale(routed, event, earned, fold, step, snapshot, digest)]
        bare = self.bare_sale(routed, event, terms, snapshot, digest)
        given = [*self.rules.given(earned.awards, earned.place, bare.line_no), *bonuses]
        entries = [*bare.entries, *self.accruals(given, bare)]
        posting = structs.replace(bare, judged=self.judged(earned), entries=entries, look=step.look)
        return self.finish([posting], fold, snapshot, closes=closes)

    def only_earns(self, fold: Fold, step: Step, snapshot: Snapshot) -> bool:
        """Whether nothing but accruals follows from a sale: nothing is pending, exchanged, due, or handed on."""
        after = max(fold.member.dues_until, step.sold.day.toordinal())
        return not (
            step.moved.pending
            or fold.handing.handed
            or (self.exchanges.rules and step.account_id in snapshot.groups)
            or self.exchanges.possible(snapshot.units(step.account_id), step.moved.units)
            or (after < fold.as_of and self.family.dues_between(fold.member, after, fold.as_of))
        )

    def swift_sale(
        self, routed: Routed, event: SaleEvent, earned: MemberEarned, fold: Fold, step: Step, snapshot: Snapshot, digest: str
    ) -> bytes:
        """The record of a sale in order that only earns, applied: what `finish` does with its posting, without the objects in between."""
        account_id, terms = step.account_id, self.terms_of(earned.day)
        holdings = snapshot.units(account_id)
        for unit, points in step.moved.units.items():
            check_room(unit, holdings, points)
        fold.member.next_due = self.family.next_due(fold.member, max(fold.as_of, fold.member.dues_until))
        changes = fold.budgets.changes()
        budgets = {rule.id: points for rule, points in changes}
        text = member_text(fold.member)
        behind = behind_entries(earned.run.watched.judged(earned.place), text, budgets, step.look)
        said = self.writer.values(routed.key.encode(), digest.encode(), account_id, routed.offset, event, terms.text.encode())
        record, _ = earned.awards.record(earned.place, said, terms.fragments, behind)
        credit(snapshot, account_id, step.moved.units.items(), terms.expiries)
        snapshot.hold(routed.key, terms.text, record)
        snapshot.stand(account_id, fold.member, routed.key, step.sold.occurred_at, text)
        snapshot.take(budgets)
        self.take_budgets(changes)
        return record

    def undo_records(self, posting: Posting, snapshot: Snapshot, *, closes: bool) -> list[bytes]:
        """What a return or void writes to the ledger, applied: the points that paid as ever, the rules' points by their sheet."""
        sale = decode_record(snapshot.postings[posting.reverses_posting or ""])
        if posting.account_id is None or not isinstance(sale, Posting) or sale.judged is None:
            return super().undo_records(posting, snapshot, closes=closes)
        posting = structs.replace(posting, entries=[group for group in posting.entries if group.rule_id is None])
        judge = self.version_of(sale)
        fold = judge.fold(snapshot, posting.account_id)
        if is_late(posting, fold.member.last):
            return self.late_records(posting, snapshot, closes=closes)
        before = came_back(snapshot.returned.get(sale.posting_id, Returned()))
        old = judge.sheet(sale, snapshot)
        new = fold.came_back(posting, sale, old, before, summed(before, posting))
        posting = structs.replace(posting, entries=[*posting.entries, *judge.between(sale, old, new, snapshot.as_of)], sheet=new)
        return self.finish([posting], fold, snapshot, closes=closes)

    def fact_records(self, posting: Posting, snapshot: Snapshot) -> list[bytes]:
        """What an activity, an enrolment, segments or a merge write to the ledger, applied: what the rules that answer to it give."""
        fold = self.fold(snapshot, posting.account_id)
        if is_late(posting, fold.member.last):
            return self.late_records(posting, snapshot, closes=True)
        given = fold.bonus(posting)
        return self.finish([structs.replace(posting, entries=self.accruals(given, posting))], fold, snapshot, closes=True)

    def tick(self, routed: Routed, event: TickEvent, snapshot: Snapshot) -> Iterator[bytes]:
        """What falls due for each member of the snapshot, then what expires."""
        snapshot.as_of = max(snapshot.as_of or "", event.data.date.isoformat())
        for account_id in sorted(snapshot.members):
            fold = self.fold(snapshot, account_id)
            if self.falls_due_late(fold.member, as_of_day(snapshot)):
                cause = self.occasions.due(account_id, Due(event.data.date, CLOCK, [], 0), routed)
                yield from self.late_records(cause, snapshot, closes=False)
            elif made := self.fall_due(fold, fold.member.dues_until, account_id, routed):
                yield from self.finish(made, fold, snapshot, closes=False)
        yield from super().tick(routed, event, snapshot)

    def late_records(self, late: Posting, snapshot: Snapshot, *, closes: bool) -> list[bytes]:
        """A posting that stands before others of its account, and what it changes of theirs, applied."""
        found = {key: decode_record(snapshot.postings[key]) for key in snapshot.chronicles.get(late.account_id or "", ())}
        known = {key: record for key, record in found.items() if isinstance(record, Posting)}
        if late.kind == "takeover" and says_nothing_new(late, known.values()):
            return []
        # What a return or void moves stands in its sale's sheet, also what it gave back when it came late itself.
        giving = {key: posting for key, posting in known.items() if posting.reverses_posting is None}
        old = {key: self.version_of(posting).sheet(posting, snapshot) for key, posting in giving.items()}
        fold = Fold(self.rules, self.zone, Allowance(self.family.budgets, self.usage(known, old)), as_of_day(snapshot))
        refold = Refold(fold, self.family, late, as_of_day(snapshot))
        fold.handing.version = (len(known) + 1, as_of_day(snapshot))
        refold.run([*known.values(), late])
        different = list(self.differences(late, known, old, refold, snapshot.as_of))
        if different:
            return self.finish(different, fold, snapshot, closes=closes)
        self.handed += fold.handing.follows(late.account_id or "")
        return []

    def differences(
        self, late: Posting, known: dict[str, Posting], old: dict[str, Sheet], refold: Refold, as_of: str | None
    ) -> Iterator[Posting]:
        """The late event's own posting, what fell due by it, and the corrections, by posting id."""
        undone = late.reverses_posting
        if undone is not None:
            sale = known[undone]
            entries = self.version_of(sale).between(sale, old[undone], refold.sheets[undone], as_of)
            yield structs.replace(late, entries=[*late.entries, *entries], sheet=refold.sheets[undone])
        elif late.kind != "due":
            given = self.accruals(refold.given[late.posting_id], late)
            look = refold.sheets[late.posting_id].look
            yield structs.replace(late, entries=[*late.entries, *given], look=look if look != Look() else None)
        for key in sorted(refold.dues.keys() - known.keys()):
            due = refold.dues[key]
            yield structs.replace(due, entries=self.version_of(due).accruals(refold.given[key], due))
        for key in sorted(old.keys() - {undone}):
            new = refold.sheets.get(key, Sheet({}, {}))
            if not same_sheet(old[key], new):
                entries = self.version_of(known[key]).between(known[key], old[key], new, as_of)
                yield self.occasions.correction(late, known[key], entries, new)

    def version_of(self, posting: Posting) -> "MemberPoster":
        """The poster of the version that judged a posting."""
        if posting.program_version == self.version:
            return self
        found: MemberPoster = self.family.member_poster(posting.program_version)
        return found

    def finish(self, postings: list[Posting], fold: Fold, snapshot: Snapshot, *, closes: bool) -> list[bytes]:
        """Adds what fell due meanwhile, gives the postings the state behind them all, keeps them, and takes from budgets what they gave."""
        first = postings[0]
        after = max(fold.member.dues_until, day_of(first))
        postings = [*postings, *self.fall_due(fold, after, first.account_id or "", first)]
        next_due = self.family.next_due(fold.member, max(as_of_day(snapshot), fold.member.dues_until))
        member = structs.replace(fold.member, next_due=next_due)
        changes = fold.budgets.changes()
        postings[0] = structs.replace(postings[0], budgets={rule.id: points for rule, points in changes})
        last = len(postings) - 1
        records = [
            self.keep(structs.replace(posting, member=member), snapshot, closes=closes and place == last)
            for place, posting in enumerate(postings)
        ]
        self.take_budgets(changes)
        self.handed += fold.handing.follows(first.account_id or "")
        return records

    def take_budgets(self, changes: Iterable[tuple[Rule, int]]) -> None:
        """What postings took, now that they are kept."""
        for rule, points in changes:
            self.family.budgets.moved(rule, points)

    def in_need_of_chronicles(self, batch: Sequence[AnyRouted], snapshot: Snapshot) -> set[str]:
        """The accounts that have an event in the batch which stands before another one of theirs, or may."""
        last = {name: member.last for name, member in snapshot.members.items()}
        found: set[str] = set()
        for routed in batch:
            account_id = routed.account_id
            if isinstance(routed, Routed) and isinstance(routed.event, TickEvent):
                until = max(as_of_day(snapshot), routed.event.data.date.toordinal())
                found |= {name for name, member in snapshot.members.items() if self.falls_due_late(member, until)}
            elif account_id is not None:
                place, before = position_of(routed), last.get(account_id, FIRST)
                if place < before or routed.key in snapshot.waiting or (place == before and isinstance(routed.event, TakeoverEvent)):
                    found.add(account_id)
                last[account_id] = max(place, last.get(account_id, FIRST))
        return found

    def falls_due_late(self, member: Member, until: int) -> bool:
        """Whether something may be due up to a date before events that the account has: by the state before them, which was another."""
        if member.dues_until >= until or member.dues_until == 0:
            return member.dues_until < until and member.last > FIRST
        return member.last[0] >= instant_text(midnight(date.fromordinal(member.dues_until + 1), self.zone))

    def tick_record(self, posting: Posting, snapshot: Snapshot) -> bytes:
        """As `Poster.tick_record`, with what can be exchanged once points have ripened."""
        ripe = [date.fromisoformat(group.until) for group in posting.entries if group.kind == "release" and group.until is not None]
        if ripe and posting.account_id is not None:
            local = midnight(max(ripe) + timedelta(days=1), self.zone)
            units = snapshot.units(posting.account_id)
            posting = structs.replace(posting, entries=self.exchanged(posting, posting.entries, local, units, snapshot))
        return super().tick_record(posting, snapshot)

    def completed(self, posting: Posting, units: Units, snapshot: Snapshot) -> list[Entries]:
        """As `Poster.completed`, with what is exchanged after the posting."""
        local = datetime.fromisoformat(posting.occurred_at).astimezone(self.zone)
        return self.exchanged(posting, super().completed(posting, units, snapshot), local, units, snapshot)

    def exchanged(self, posting: Posting, entries: list[Entries], local: datetime, units: Units, snapshot: Snapshot) -> list[Entries]:
        """The entries of a posting, what they allow the group to exchange, and what falls due of that."""
        if not self.exchanges.rules:
            return entries
        member = posting.member or snapshot.members.get(posting.account_id or "") or Member()
        kin = snapshot.kin(posting.account_id or "")
        there = units if kin is ALONE else sum_of([*kin.before, units, *kin.behind])
        exchanged = list(self.exchanges.due(there, entries, member, local, self.terms_of(local.date()).expiries))
        entries = [*entries, *exchanged]
        if not exchanged:
            return entries
        return [*entries, *due_after(units, entries, snapshot.as_of, kin)]

    def fall_due(self, fold: Fold, after: int, account_id: str, cause: Routed | Posting) -> list[Posting]:
        """The postings of what falls due later than the date `after`, up to the latest tick, with what the rules give for each."""
        found: list[Posting] = []
        while some := earliest(self.family.dues_between(fold.member, after, fold.as_of)):
            for due in some:
                judge = self.family.member_poster_on(due.day)
                posting = judge.occasions.due(account_id, due, cause)
                fold.rules = judge.rules
                found.append(structs.replace(posting, entries=judge.accruals(fold.bonus(posting), posting)))
            after = fold.member.dues_until
        return found

    def accruals(self, given: Iterable[Given], posting: Posting) -> list[Entries]:
        """What rules give, as entries of a posting of its date; pending first where they have a holding period."""
        day = date.fromisoformat(posting.day)
        expiries = self.terms_of(day).expiries
        entries = (
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
        )
        return list(pending_first(entries, self.holding_days, day))

    def between(self, posting: Posting, old: Sheet, new: Sheet, as_of: str | None) -> list[Entries]:
        """The entries that lead the rules of a posting from one sheet to another, with the holding of what is still pending."""
        day = date.fromisoformat(posting.day)
        entries = entries_between(posting, old, new, self.named, self.terms_of(day).expiries)
        return list(pending_too(entries, self.holding_days, day, as_of))

    def sheet(self, posting: Posting, snapshot: Snapshot) -> Sheet:
        """What the rules of a posting stand at now."""
        found = snapshot.sheets.get(posting.posting_id)
        return sheet_of_posting(posting, self.named) if found is None else found

    def usage(self, known: Mapping[str, Posting], sheets: Mapping[str, Sheet]) -> dict[str, int]:
        """What events took from budgets, by rule."""
        used: dict[str, int] = {}
        for key, sheet in sheets.items():
            judge = self.version_of(known[key])
            for rule_id, lines in sheet.given.items():
                if rule_id in judge.named and judge.named[rule_id].cap.budget is not None:
                    back = sum(sheet.undone.get(rule_id, {}).values()) if judge.rules.counting.gives_back(rule_id) else 0
                    used[rule_id] = used.get(rule_id, 0) + sum(lines.values()) - back
        return used

    def judged(self, earned: MemberEarned) -> Judged:
        """What a sale was judged by."""
        return judged_at(earned.run.columns, self.compiled, earned.place)

    def overspends(self, budgets: Iterable[tuple[str, int]]) -> bool:
        """Whether others of the same run have meanwhile taken from a budget what a sale was promised."""
        left = self.family.budgets.left
        return any(points > left(self.named[rule_id]) for rule_id, points in budgets)

    def earned_again(self, earned: MemberEarned, fold: Fold) -> MemberEarned:
        """The sale judged once more, by itself, under what is left of the budgets now."""
        columns = one_of(earned.run.columns, self.compiled.words, earned.place)
        looks = self.rules.look(columns, [fold.member], [earned.day], self.family.budgets)
        alone = Run(columns, looks, self.rules.counting.watching.over(columns))
        return MemberEarned(self.rules.award(columns, looks), 0, earned.day, alone, fold)


def runs(batch: Sequence[AnyRouted]) -> Iterator[list[AnyRouted]]:
    """The batch cut into sales of accounts that are all different, all decoded or scanned one behind the other, and single other events."""
    run: list[AnyRouted] = []
    accounts: set[str] = set()
    for routed in batch:
        is_sale = isinstance(routed, PlainSale) or isinstance(routed.event, SaleEvent)
        if run and (not is_sale or routed.account_id in accounts or not follows(run[-1], routed)):
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


def follows(one: AnyRouted, other: AnyRouted) -> bool:
    """Whether two sales stand in the same columns: both decoded, or both scanned, one behind the other."""
    if isinstance(one, PlainSale):
        return isinstance(other, PlainSale) and other.batch is one.batch and other.place == one.place + 1
    return isinstance(other, Routed)


def position_of(routed: AnyRouted) -> Position:
    """Where an event that has an account stands among those of it."""
    if isinstance(routed, PlainSale):
        return routed.instant, routed.key
    event = routed.event
    return instant_text(occurred(event)), place_key(event.data) if isinstance(event, TakeoverEvent) else routed.key  # type: ignore[arg-type]


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
