"""One `Poster` per effective version of the programs, and each event to the one of its local date.

In: batches as `Poster.post` takes them. Out: the same outcomes, in the same order. Where any version looks at members, all of them are
judged by a `MemberPoster`, so that what was bought under one version counts under the next; each looks up the others here, since judging
an account again meets events of all its versions.
"""

from collections.abc import Collection, Iterator, Sequence
from datetime import date
from itertools import groupby

from tillstream.kernels.asked import asked
from tillstream.kernels.counting import Counting
from tillstream.kernels.dues import Due, Dues
from tillstream.kernels.keys import occurred
from tillstream.kernels.lapsing import clamps, touch_before
from tillstream.kernels.member_poster import MemberPoster
from tillstream.kernels.member_rules import looks_at_members
from tillstream.kernels.occasions import profile_terms
from tillstream.kernels.plain import PlainSale, Scanner
from tillstream.kernels.posting import Poster
from tillstream.kernels.recounting import Recount
from tillstream.kernels.room import Budgets, Table
from tillstream.kernels.routed import SCANNED_WITH, AnyRouted, Outcome, Routed, decoded
from tillstream.kernels.snapshot import Snapshot
from tillstream.kernels.timetable import NOTHING, Timetable
from tillstream.schemas.events import ReturnEvent, SaleEvent, SpendingEvent, TakeoverEvent, TickEvent, VoidEvent
from tillstream.schemas.ledger import Posting, decode_record
from tillstream.schemas.member_state import Member
from tillstream.schemas.program_file import Versioned

NOBODY: Collection[str] = ()
"""Where no rule exchanges anything."""

POSTERS_MAX = 16
"""Compiled versions that are kept: those of a few years; a receipt older than that costs a compilation."""


class Posters:
    """Judges events by the programs of a timetable, which may be exchanged between batches.

    `budgets` is what is left of the rules' budgets: a table of its own, or what a worker has leased for the batch to come.
    """

    def __init__(self, timetable: Timetable) -> None:
        self.budgets: Budgets = Table()
        self.posters: dict[str, Poster] = {}
        self.exchange(timetable)

    def exchange(self, timetable: Timetable) -> None:
        """Judges by another timetable from the next batch on. What is compiled stays, but for the one name that tells no content."""
        self.timetable = timetable
        self.latest = timetable.effective_versions[-1]
        self._calendars: list[tuple[Dues, int, int]] | None = None
        compiled_for = getattr(self, "looks_at_members", None), getattr(self, "asked", None)
        self.looks_at_members = any(looks_at_members(effective.program) for effective in timetable.effective_versions)
        self.asked = asked(version.program for version in timetable.by_version.values())
        if (self.looks_at_members, self.asked) != compiled_for:
            self.posters.clear()
        self.posters.pop(NOTHING, None)
        self.profile_terms = profile_terms(effective.program for effective in timetable.effective_versions)
        for poster in self.posters.values():
            poster.occasions.terms = self.profile_terms

    def post(self, batch: Sequence[AnyRouted], snapshot: Snapshot) -> list[Outcome]:
        """The outcomes in order; the snapshot has everything applied on return."""
        outcomes: list[Outcome] = []
        for effective, events in self.split(batch):
            self.latest, poster = effective, self.poster_of(effective)
            outcomes += poster.post(readable(events, poster), snapshot)
        return outcomes

    def lacking(self, snapshot: Snapshot) -> set[str]:
        """The accounts whose states do not have all that versions ask for by now: to be counted again before the batch is posted."""
        if not self.looks_at_members:
            return set()
        return {name for name, member in snapshot.members.items() if member.asked != self.asked.mark}

    def recounted(self, account_id: str, snapshot: Snapshot) -> Member:
        """The state of an account whose events the snapshot has all, counted again; it is kept with the account's next posting."""
        found = [decode_record(snapshot.postings[key]) for key in snapshot.chronicles[account_id]]
        postings = [record for record in found if isinstance(record, Posting)]
        return Recount(self, snapshot.sheets).of(snapshot.members[account_id], postings, self.asked.mark)

    def counting_of(self, version: str | None) -> Counting:
        """How what a version judged is counted."""
        return self.member_poster(version).rules.counting

    def in_need_of_chronicles(self, batch: Sequence[AnyRouted], snapshot: Snapshot) -> set[str]:
        """The accounts of whose earlier events the snapshot must have all before the batch is posted."""
        if not self.looks_at_members:
            return set()
        return self._member_poster(self.latest).in_need_of_chronicles(batch, snapshot)

    def in_need_of_kin(self, batch: Sequence[AnyRouted], snapshot: Snapshot, again: Collection[str] = ()) -> set[str]:
        """The accounts of whose groups the snapshot must have all: those that spend, and those of whose expired lots some may change.

        `again` are those that are judged again, whose events all may change what has expired.
        """
        found = set(again) if snapshot.as_of else set()
        joined = self.joined(snapshot)
        today = date.fromisoformat(snapshot.as_of) if snapshot.as_of else date.min
        waiting = snapshot.waiting
        if not (snapshot.as_of or waiting or joined):  # Then no plain sale has any.
            batch = [routed for routed in batch if not isinstance(routed, PlainSale)]
        for routed in batch:
            if isinstance(routed, PlainSale):
                if routed.day < today or routed.key in waiting or routed.account_id in joined:
                    found.add(routed.account_id)
            elif isinstance(routed.event, TickEvent):
                found |= snapshot.accounts.keys()
            elif routed.account_id is not None and routed.account_id not in found:
                late = self.day_of(routed) < today or routed.key in waiting
                joins = routed.account_id in joined or (joined is not NOBODY and isinstance(routed.event, TakeoverEvent))
                if late or joins or self.looks_at_kin(routed, snapshot):
                    found.add(routed.account_id)
        return found

    def joined(self, snapshot: Snapshot) -> Collection[str]:
        """The accounts that have taken over others, where rules exchange what there is of a unit."""
        programs = [effective.program for effective in self.timetable.effective_versions]
        if not any(rule.exchange is not None for program in programs for rule in program.rules):
            return NOBODY
        return {name for name, member in snapshot.members.items() if member.taken}

    def looks_at_kin(self, routed: Routed, snapshot: Snapshot) -> bool:
        """Whether an event that is not late spends points, or takes back what has expired, or must not lead the group into debt."""
        event = routed.event
        if isinstance(event, SaleEvent):
            return any(tender.type == "points" for tender in event.data.tenders)
        if not isinstance(event, ReturnEvent | VoidEvent):
            return isinstance(event, SpendingEvent)
        programs = [effective.program for effective in self.timetable.effective_versions]
        if routed.sale_key in snapshot.sheets or any(clamps(program, unit) for program in programs for unit in program.units):
            return True
        sale = decode_record(snapshot.postings[routed.sale_key]) if routed.sale_key in snapshot.postings else None
        return isinstance(sale, Posting) and snapshot.as_of is not None and touch_before(sale.entries, snapshot.as_of)

    @property
    def budget_limits(self) -> dict[str, int]:
        """The budgets of all rules that have one, by rule id; where versions differ, the latest says."""
        rules = [rule for effective in self.timetable.effective_versions for rule in effective.program.rules]
        return {rule.id: rule.cap.budget for rule in rules if rule.cap.budget is not None}

    @property
    def scanner(self) -> Scanner | None:
        """What takes plain sales straight from their bytes, by the version that judged last; what another judges is decoded."""
        poster = self.poster_of(self.latest)
        return poster.scanner if self.looks_at_members or not poster.holding_days else None

    def split(self, batch: Sequence[AnyRouted]) -> Iterator[tuple[Versioned, Sequence[AnyRouted]]]:
        """The batch in runs that one effective version judges."""
        constant = self.timetable.constant
        if constant is not None:
            yield constant, batch
            return
        for _, run in groupby(batch, key=lambda routed: self.timetable.effective(self.day_of(routed)).version):
            events = list(run)
            yield self.timetable.effective(self.day_of(events[0])), events

    def day_of(self, routed: AnyRouted) -> date:
        """The local date of an event; of a tick, the date that it brings."""
        if isinstance(routed, PlainSale) and routed.batch.scanner.zone is self.timetable.zone:
            return routed.day
        event = routed.event
        return event.data.date if isinstance(event, TickEvent) else occurred(event).astimezone(self.timetable.zone).date()

    def poster_of(self, effective: Versioned) -> Poster:
        """The poster of an effective version, compiled when it is first needed."""
        found = self.posters.get(effective.version)
        if found is None:
            if len(self.posters) >= POSTERS_MAX:
                self.posters.clear()
            found = MemberPoster(effective, self) if self.looks_at_members else Poster(effective)
            found.occasions.terms = self.profile_terms
            self.posters[effective.version] = found
        return found

    def member_poster(self, version: str | None) -> MemberPoster:
        """The poster of the version that a posting names; of one that was taken back, the latest stands in, and explanations say so."""
        try:
            effective = self.timetable.named(version or NOTHING)
        except KeyError:
            effective = self.timetable.effective_versions[-1]
        return self._member_poster(effective)

    def member_poster_on(self, day: date) -> MemberPoster:
        """The poster of the version in force on a local date."""
        return self._member_poster(self.timetable.effective(day))

    def dues_between(self, member: Member, after: int, until: int) -> list[Due]:
        """What is due later than the date `after`, up to `until`, in order, each by the version in force on its date."""
        constant = self.timetable.constant
        if constant is not None:
            return self._member_poster(constant).dues.between(member, after, until)
        found = [
            due
            for effective in self.timetable.effective_versions
            for due in self._member_poster(effective).dues.between(member, after, until)
            if self.timetable.effective(due.day) is effective
        ]
        return sorted(found, key=Due.order)

    def next_due(self, member: Member, after: int) -> int:
        """The first date later than `after` on which something will be due by the version that holds then, 0 for none."""
        found = 0
        for calendar, begins, ends in self.calendars:
            day = calendar.next_after(member, max(after, begins - 1))
            if day and day <= ends and (found == 0 or day < found):
                found = day
        return found

    @property
    def calendars(self) -> list[tuple[Dues, int, int]]:
        """What falls due by each version, and the first and last date on which it holds; made when it is first asked for."""
        if self._calendars is None:
            timetable = self.timetable
            self._calendars = [
                (calendar, begins.toordinal(), ends.toordinal())
                for effective, begins, ends in zip(timetable.effective_versions, timetable.begins, timetable.ends, strict=True)
                if not (calendar := self._member_poster(effective).dues).empty
            ]
        return self._calendars

    def _member_poster(self, effective: Versioned) -> MemberPoster:
        poster = self.poster_of(effective)
        if not isinstance(poster, MemberPoster):
            raise TypeError("no version looks at members")
        return poster


def readable(batch: Sequence[AnyRouted], poster: Poster) -> Sequence[AnyRouted]:
    """Events as their judge can read them: the columns of sales that were scanned by another version say nothing of this one's rules."""
    if all(scanned is None or scanned.scanner is poster.scanner for scanned in set(map(SCANNED_WITH, batch))):
        return batch
    return [decoded(sale) if isinstance(sale, PlainSale) and sale.batch.scanner is not poster.scanner else sale for sale in batch]
