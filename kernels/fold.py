"""One account's state, moved along its events one by one: what each gives under the state before it, and the state behind it.

Posting in order takes one step; what comes late makes all steps again, from nothing (`refold`), and the ledger gets the difference. Both go
through `Fold`, so an account ends where the sorted order of its events leads (G3).
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

from msgspec import structs

from tillstream.kernels.counting import Counting, Sums, day_of
from tillstream.kernels.member_rules import Given, Look, MemberRules, columns_of
from tillstream.kernels.reversal import undone
from tillstream.kernels.room import Allowance
from tillstream.kernels.terms import Moment
from tillstream.kernels.tiers import advance, rise
from tillstream.schemas.events import Malformed
from tillstream.schemas.fields import INT64_MAX
from tillstream.schemas.ledger import Posting
from tillstream.schemas.member_state import WHOLE, Judged, Member, Sheet

Position = tuple[str, str]
"""Where an event stands among those of its account: (UTC instant, natural key)."""


class Fold:
    """The state of one account on its way through its events; `as_of` is the date of the latest tick, 0 before the first."""

    def __init__(self, rules: MemberRules, zone: ZoneInfo, budgets: Allowance, as_of: int, member: Member | None = None) -> None:
        self.rules = rules
        self.zone = zone
        self.budgets = budgets
        self.as_of = as_of
        self.member = Member() if member is None else copied(member)

    @property
    def counting(self) -> Counting:
        return self.rules.counting

    def look(self, day: date, amount: int) -> Look:
        """What the state leaves of the rules for a sale on `day` whose lines come to `amount`."""
        self.reach(day)
        return self.rules.look(self.member, Moment(day, amount), self.budgets)

    def sale(self, posting: Posting, given: list[Given]) -> list[Given]:
        """A sale gave `given`; what the new tier gives on top, if it raised one."""
        self.counting.bought(self.member, posting)
        self.gave(posting, given)
        bonuses = self.risen(posting)
        self.stands_at(posting)
        return bonuses

    def sale_again(self, posting: Posting) -> tuple[Look, list[Given]]:
        """A posted sale under the state as it is now."""
        look = self.look(date.fromisoformat(posting.day), sum(posting.amount))
        given = self.kernel_given(posting, look, {})
        return look, [*given, *self.sale(posting, given)]

    def kernel_given(self, posting: Posting, look: Look, back: Sums) -> list[Given]:
        """The award kernel on one posted sale, of which `back` came back.

        Raises:
            Malformed: what it gives does not fit 64 bits.
        """
        columns = columns_of(posting, self.rules.compiled.words, back)
        awards = self.rules.award(columns, [look])
        if awards.status[0]:
            raise Malformed("overflow", "$.data.lines", "the receipt's sums or points do not fit 64 bits")
        return self.rules.given(awards, 0, columns.line_no)

    def came_back(self, posting: Posting, sale: Posting, sheet: Sheet, before: Sums, after: Sums) -> Sheet:
        """A return or void: what the sale's rules stand at then. Tiers are not theirs to decide: another version may hold by now."""
        self.counting.came_back(self.member, sale, before, after, voided=posting.kind == "void")
        new = self.sheet_after(sale, sheet, after)
        for rule_id, lines in new.undone.items():
            back = sum(lines.values()) - sum(sheet.undone.get(rule_id, {}).values())
            self.counting.took_back(self.member, rule_id, day_of(sale), back)
            if self.counting.gives_back(rule_id):
                self.moved(rule_id, -back)
        self.stands_at(posting)
        return new

    def sheet_after(self, sale: Posting, sheet: Sheet, back: Sums) -> Sheet:
        """What is undone of each rule's points once `back` has come back: in proportion, or by judging again what is left."""
        bought = {n: (amount, quantity) for n, amount, quantity in zip(sale.line_no, sale.amount, sale.quantity_milli, strict=True)}
        left: dict[str, dict[int, int]] = {}
        if not self.rules.requalifying.isdisjoint(sheet.given):
            again = self.kernel_given(sale, Look(sheet.closed, sheet.room), back)
            left = {given.rule_id: dict(zip(given.line_no, given.points, strict=True)) for given in again}
        result: dict[str, dict[int, int]] = {}
        for rule_id, lines in sheet.given.items():
            before = sheet.undone.get(rule_id, {})
            taken = dict(before)
            for number, points in lines.items():
                if number == WHOLE:
                    continue
                if rule_id in self.rules.requalifying:
                    part = max(before.get(number, 0), points - left.get(rule_id, {}).get(number, 0))
                elif number in back:
                    part = undone(points, back[number][0], bought[number][0], back[number][1], bought[number][1])
                else:
                    continue
                if part:
                    taken[number] = part
            if taken:
                result[rule_id] = taken
        return Sheet(sheet.given, result, sheet.closed, sheet.room)

    def bonus(self, posting: Posting) -> list[Given]:
        """An activity, an enrolment or what fell due: what the rules that answer to it give."""
        judged, day = posting.judged or Judged(), date.fromisoformat(posting.day)
        self.reach(day)
        if posting.kind == "enrolment" and judged.profile is not None:
            first = self.member.profile.enrolled_on is None
            since = day_of(posting) if first else self.member.profile.enrolled_on
            self.member.profile = structs.replace(judged.profile, enrolled_on=since)
            given = self.answers(posting, judged) if first else []
        else:
            given = self.answers(posting, judged)
        self.gave(posting, given)
        given = [*given, *self.risen(posting)]
        self.stands_at(posting)
        return given

    def answers(self, posting: Posting, judged: Judged) -> list[Given]:
        """What the rules give that `judged` leaves open."""
        moment = Moment(date.fromisoformat(posting.day))
        found = self.rules.bonuses.give(judged, self.member, moment, self.budgets)
        if any(bonus.award > INT64_MAX for bonus in found):
            raise Malformed("overflow", "$.data.quantity", "the points do not fit 64 bits")
        return [Given(bonus.rule.id, [WHOLE], [bonus.points], bonus.basis, bonus.award) for bonus in found]

    def risen(self, posting: Posting) -> list[Given]:
        """Raises the tier level by level, and gives what the rules `on = "tier_up"` give for each; these may raise it further."""
        tiers, day = self.rules.program.tiers, date.fromisoformat(posting.day)
        given: list[Given] = []
        while tiers is not None and rise(tiers, self.member, day):
            local = datetime.fromisoformat(posting.occurred_at).astimezone(self.zone)
            answering = self.rules.bonuses.answering("tier_up", local, {})
            more = self.answers(posting, Judged(trigger="tier_up", open=answering))
            self.gave(posting, more)
            given += more
        return given

    def gave(self, posting: Posting, given: Sequence[Given]) -> None:
        """Counts what rules gave an event."""
        for rule_id, _, points, *_ in given:
            self.counting.gave(self.member, rule_id, day_of(posting), sum(points))
            self.moved(rule_id, sum(points))

    def moved(self, rule_id: str, points: int) -> None:
        rule = self.counting.rules.get(rule_id)
        if rule is not None and rule.cap.budget is not None and points:
            self.budgets.moved(rule, points)

    def reach(self, day: date) -> None:
        """Decides tiers whose window ended before `day`, and before the latest tick."""
        if self.rules.program.tiers is not None:
            advance(self.rules.program.tiers, self.member, min(day.toordinal(), self.as_of))

    def stands_at(self, posting: Posting) -> None:
        """What was due before a posting has been dealt with: what came after it does not change that."""
        self.member.last = max(self.member.last, position(posting))
        self.member.dues_until = max(self.member.dues_until, min(day_of(posting), self.as_of))


def position(posting: Posting) -> Position:
    """Where a posting's event stands among those of its account."""
    return instant_text(datetime.fromisoformat(posting.occurred_at)), posting.posting_id


def instant_text(moment: datetime) -> str:
    """An instant as text that sorts as instants do."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """The local beginning of a date."""
    return datetime.combine(day, time(), zone)


def sheet_of(given: Sequence[Given], look: Look | None = None) -> Sheet:
    """What an event's rules stand at before anything comes back."""
    sheet = Sheet({}, {}, [] if look is None else look.closed, {} if look is None else look.room)
    for rule_id, line_no, points, *_ in given:
        lines = sheet.given.setdefault(rule_id, {})
        for number, part in zip(line_no, points, strict=True):
            lines[number] = lines.get(number, 0) + part
    return sheet


def copied(member: Member) -> Member:
    """A state that can be moved on without moving the first."""
    return Member(
        member.last,
        member.profile,
        {name: dict(counts) for name, counts in member.counts.items()},
        {name: dict(given) for name, given in member.given.items()},
        {name: list(days) for name, days in member.used.items()},
        member.tier,
        member.window_end,
        member.dues_until,
    )
