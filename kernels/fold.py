"""One account's state, moved along its events one by one: what each gives under the state before it, and the state behind it.

Posting in order takes one step; what comes late makes all steps again, from nothing (`refold`), and the ledger gets the difference. Both go
through `Fold`, so an account ends where the sorted order of its events leads (G3).
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time
from typing import NamedTuple
from zoneinfo import ZoneInfo

from msgspec import structs

from tillstream.kernels.award import Awards
from tillstream.kernels.columns import Columns
from tillstream.kernels.counting import Counting, Sums, day_of
from tillstream.kernels.handing import Handing, place_key, takeover_of
from tillstream.kernels.joining import take_over
from tillstream.kernels.looking import Looks
from tillstream.kernels.member_rules import Given, MemberRules
from tillstream.kernels.posted import columns_of
from tillstream.kernels.reversal import undone
from tillstream.kernels.room import Allowance
from tillstream.kernels.terms import Moment
from tillstream.kernels.tiers import advance, rise
from tillstream.schemas.events import Malformed
from tillstream.schemas.fields import INT64_MAX
from tillstream.schemas.ledger import Posting
from tillstream.schemas.member_state import WHOLE, Judged, Look, Member, Profile, Sheet

MERGED, UNMERGED = "merged", "unmerged"
"""What a posting of kind `merge` answers to."""

Position = tuple[str, str]
"""Where an event stands among those of its account: (UTC instant, natural key)."""


class Sold(NamedTuple):
    """What a sale is to its member's state: its local date, what its lines come to, what each watch counts of them, and when it was."""

    day: date
    amount: int
    watched: list[int]
    position: Position
    occurred_at: str


class Fold:
    """The state of one account on its way through its events; `as_of` is the date of the latest tick, 0 before the first."""

    def __init__(self, rules: MemberRules, zone: ZoneInfo, budgets: Allowance, as_of: int, member: Member | None = None) -> None:
        self.rules = rules
        self.zone = zone
        self.budgets = budgets
        self.as_of = as_of
        self.member = Member(asked=rules.counting.asked.mark) if member is None else copied(member)
        self.handing = Handing(self.member)

    @property
    def counting(self) -> Counting:
        return self.rules.counting

    def sale(self, sale: Sold, sums: list[tuple[int, int]], budgets: Sequence[tuple[str, int]]) -> list[Given]:
        """A sale, of which rules gave `sums`, by their rows; what the new tier gives on top, if it raised one."""
        self.counting.mover.sold(self.member, sale.day.toordinal(), sale.amount, sale.watched, sums)
        for rule_id, points in budgets:
            self.budgets.moved(self.counting.rules[rule_id], points)
        bonuses = self.risen(sale.day, sale.occurred_at)
        self.stands_at(sale.position, sale.day)
        return bonuses

    def sale_again(self, posting: Posting) -> tuple[Look | None, list[Given]]:
        """A posted sale under the state as it is now: what it gives, and under which look to judge it again on a return."""
        columns = columns_of(posting, self.rules.compiled)
        watched = self.counting.watching.over(columns)
        sold = Sold(date.fromisoformat(posting.day), watched.total(0), watched.counts(0), position(posting), posting.occurred_at)
        self.reach(sold.day)
        looks = self.rules.look(columns, [self.member], [sold.day], self.budgets)
        awards = self.kernel_awards(columns, looks)
        sums = awards.sums(0)
        moved = self.counting.mover.gives(sums)
        given = [*self.rules.given(awards, 0, columns.line_no), *self.sale(sold, sums, moved.budgets)]
        return self.rules.look_at(looks, 0) if moved.again else None, given

    def kernel_awards(self, columns: Columns, looks: Looks) -> Awards:
        """The award kernel on one posted sale.

        Raises:
            Malformed: what it gives does not fit 64 bits.
        """
        awards = self.rules.award(columns, looks)
        if awards.status[0]:
            raise Malformed("overflow", "$.data.lines", "the receipt's sums or points do not fit 64 bits")
        return awards

    def came_back(self, posting: Posting, sale: Posting, sheet: Sheet, before: Sums, after: Sums) -> Sheet:
        """A return or void: what the sale's rules stand at then. Tiers are not theirs to decide: another version may hold by now."""
        self.counting.came_back(self.member, sale, before, after, voided=posting.kind == "void")
        new = self.sheet_after(sale, sheet, after)
        for rule_id, lines in new.undone.items():
            back = sum(lines.values()) - sum(sheet.undone.get(rule_id, {}).values())
            self.counting.took_back(self.member, rule_id, day_of(sale), back)
            if self.counting.gives_back(rule_id):
                self.moved(rule_id, -back)
        self.stands_at(position(posting), date.fromisoformat(posting.day))
        return new

    def sheet_after(self, sale: Posting, sheet: Sheet, back: Sums) -> Sheet:
        """What is undone of each rule's points once `back` has come back: in proportion, or by judging again what is left."""
        bought = {n: (amount, quantity) for n, amount, quantity in zip(sale.line_no, sale.amount, sale.quantity_milli, strict=True)}
        left: dict[str, dict[int, int]] = {}
        if not self.rules.requalifying.isdisjoint(sheet.given):
            columns = columns_of(sale, self.rules.compiled, back)
            again = self.rules.given(self.kernel_awards(columns, self.rules.looks_of(sheet.look)), 0, columns.line_no)
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
        return Sheet(sheet.given, result, sheet.look)

    def bonus(self, posting: Posting) -> list[Given]:
        """An activity, an enrolment or what fell due: what the rules that answer to it give. To segments none does."""
        judged, day = posting.judged or Judged(), date.fromisoformat(posting.day)
        if posting.kind in {"merge", "takeover"}:
            return self.tied(posting, judged, day)
        self.reach(day)
        if posting.kind == "segments":
            self.publish(judged.profile or Profile())
            self.stands_at(position(posting), day)
            return []
        first = judged.profile is None or (self.enrol(judged.profile, day_of(posting)) and not judged.again)
        given = self.answers(day, judged) if first else []
        self.gave(day, given, person_of(judged))
        given = [*given, *self.risen(day, posting.occurred_at)]
        self.stands_at(position(posting), date.fromisoformat(posting.day))
        return given

    def tied(self, posting: Posting, judged: Judged, day: date) -> list[Given]:
        """The account is merged, or takes over what one that is merged into it did; while it is merged itself, its own tier rests."""
        given: list[Given] = []
        place, ended = position(posting), judged.trigger == UNMERGED
        if judged.takeover is None and (self.member.into == judged.into) is not ended:
            self.stands_at(place, day)
            return given
        self.reach(day)
        if judged.takeover is None:
            self.handing.merged(self.member, "" if ended else judged.into, place)
        else:
            more = take_over(self.member, judged.takeover, self.rules.program.tiers)
            if more and not self.member.into:
                given = self.risen(day, posting.occurred_at)
            self.handing.tied(self.member, place, judged.takeover)
        self.stands_at(place, day)
        return given

    def enrol(self, profile: Profile, day: int) -> bool:
        """Takes what an enrolment says of a person; whether it is the person's first one with this account."""
        member = self.member
        if member.profile != Profile() and member.profile.person != profile.person:
            member.others[member.profile.person] = member.profile
            member.profile = member.others.pop(profile.person, Profile())
        first, member.lent = member.profile.enrolled_on is None, ""
        enrolled_on = day if first else member.profile.enrolled_on
        member.profile = structs.replace(profile, enrolled_on=enrolled_on, published=member.profile.published)
        return first

    def publish(self, profile: Profile) -> None:
        """Takes the segments published of a person; a household's receipts go on looking at who enrolled last, or was named first."""
        member = self.member
        if member.profile == Profile():
            member.profile = Profile(person=profile.person)
        own = member.profile.person == profile.person
        known = member.profile if own else member.others.get(profile.person, Profile(person=profile.person))
        known = structs.replace(known, published={**known.published, **profile.published})
        if own:
            member.profile = known
        else:
            member.others[profile.person] = known

    def answers(self, day: date, judged: Judged) -> list[Given]:
        """What the rules give that `judged` leaves open."""
        found = self.rules.bonuses.give(judged, seen_as(self.member, judged), Moment(day), self.budgets)
        if any(bonus.award > INT64_MAX for bonus in found):
            raise Malformed("overflow", "$.data.quantity", "the points do not fit 64 bits")
        return [Given(bonus.rule.id, [WHOLE], [bonus.points], bonus.basis, bonus.award) for bonus in found]

    def risen(self, day: date, occurred_at: str) -> list[Given]:
        """Raises the tier level by level, and gives what the rules `on = "tier_up"` give for each; these may raise it further."""
        tiers = self.rules.program.tiers
        given: list[Given] = []
        while tiers is not None and rise(tiers, self.member, day):
            local = datetime.fromisoformat(occurred_at).astimezone(self.zone)
            answering = self.rules.bonuses.answering("tier_up", local, {})
            more = self.answers(day, Judged(trigger="tier_up", open=answering))
            self.gave(day, more)
            given += more
        return given

    def gave(self, day: date, given: Iterable[Given], person: str = "") -> None:
        """Counts what rules gave an event that is no sale; to a person of a household, `once` is that person's."""
        sums = [(each.rule_id, sum(each.points)) for each in given]
        own = self.member.used
        if person and sums:
            self.member.used = self.member.used_by.setdefault(person, {})
        self.counting.mover.gave(self.member, day.toordinal(), sums)
        self.member.used = own
        for rule_id, points in sums:
            self.moved(rule_id, points)

    def moved(self, rule_id: str, points: int) -> None:
        rule = self.counting.rules.get(rule_id)
        if rule is not None and rule.cap.budget is not None and points:
            self.budgets.moved(rule, points)

    def reach(self, day: date) -> None:
        """Decides tiers whose window ended before `day`, and before the latest tick."""
        if self.rules.program.tiers is not None:
            advance(self.rules.program.tiers, self.member, min(day.toordinal(), self.as_of))

    def stands_at(self, place: Position, day: date) -> None:
        """What was due before an event has been dealt with: what came after it does not change that."""
        self.member.last = max(self.member.last, place)
        self.member.dues_until = max(self.member.dues_until, min(day.toordinal(), self.as_of))
        self.handing.stepped(self.member, place)


def position(posting: Posting) -> Position:
    """Where a posting's event stands among those of its account."""
    takeover = takeover_of(posting)
    return position_at(datetime.fromisoformat(posting.occurred_at), posting.posting_id if takeover is None else place_key(takeover))


def position_at(moment: datetime, posting_id: str) -> Position:
    """The same, of what has no posting yet."""
    return instant_text(moment), posting_id


def instant_text(moment: datetime) -> str:
    """An instant as text that sorts as instants do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00")


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """The local beginning of a date."""
    return datetime.combine(day, time(), zone)


def sheet_of(given: Sequence[Given], look: Look | None = None) -> Sheet:
    """What an event's rules stand at before anything comes back."""
    sheet = Sheet({}, {}, look or Look())
    for rule_id, line_no, points, *_ in given:
        lines = sheet.given.setdefault(rule_id, {})
        for number, part in zip(line_no, points, strict=True):
            lines[number] = lines.get(number, 0) + part
    return sheet


def person_of(judged: Judged) -> str:
    """Whose event it is, where the account is a household's."""
    return judged.person if judged.profile is None else judged.profile.person


def seen_as(member: Member, judged: Judged) -> Member:
    """The state of an account as the rules of an event see it: of a household, what is said of the person whose event it is."""
    person = person_of(judged)
    if not person:
        return member
    profile = member.profile if member.profile.person == person else member.others.get(person, Profile())
    return structs.replace(member, profile=profile, used=member.used_by.get(person, {}))


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
        others=dict(member.others),
        used_by={person: {name: list(days) for name, days in used.items()} for person, used in member.used_by.items()},
        into=member.into,
        taken=dict(member.taken),
        lent=member.lent,
        asked=member.asked,
    )
