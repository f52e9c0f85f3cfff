"""What `kernel` measures with the fifty-rule program, which looks at members: from columns to what rules give, and the whole of posting.

In: the same receipts as for the ten rules, and for each its member, who came once a week for half a year. Out: what is timed; and a
comparison with the oracle (tests/reference.py), which knows no members: for first purchases, by the rules that these leave open.
"""

import tomllib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec

from loadtest.contender import VoidRunError
from loadtest.load import FIFTY_RULES, KERNEL_BATCH, Prepared, fifty_rules
from tests import reference
from tillstream.kernels.columns import Columns, gather
from tillstream.kernels.looking import Looks
from tillstream.kernels.posters import Posters
from tillstream.kernels.routed import Routed
from tillstream.kernels.snapshot import Snapshot
from tillstream.kernels.timetable import Timetable
from tillstream.schemas.events import SaleEvent, decode
from tillstream.schemas.member_state import Member, Profile
from tillstream.sources.generated import FIRST_DAY

WEEKS = 26
"""Visits of each member before the receipt that is judged."""

REGULARS = 500
"""Different members per batch, as many as a worker's usual batch has: they were read right before, and are warm."""


class MemberBench:
    """The batches, decoded and in columns, their members, and the ways of judging them."""

    def __init__(self, records: Sequence[Prepared]) -> None:
        self.records = records
        self.family = Posters(Timetable([fifty_rules()]))
        self.poster = self.family.member_poster_on(FIRST_DAY)
        events = [decode(record.value) for record in records]
        self.events = [event for event in events if isinstance(event, SaleEvent)]
        self.batches = [self.events[first : first + KERNEL_BATCH] for first in range(0, len(self.events), KERNEL_BATCH)]
        self.columns = [gather(self.poster.compiled, [event.data for event in batch], self.poster.zone) for batch in self.batches]
        regulars = [self.regular(self.columns[0], place) for place in range(min(REGULARS, len(self.batches[0])))]
        self.members = [[regulars[place % len(regulars)] for place in range(len(batch))] for batch in self.batches]
        self.fragments = self.poster.terms_of(self.columns[0].dates[0]).fragments

    def regular(self, columns: Columns, place: int) -> Member:
        """The member of one receipt, after half a year of weekly receipts like it."""
        counting = self.poster.rules.counting
        watched = counting.watching.over(columns)
        member = Member(profile=Profile(segments=["families"]), tier="silver")
        for week in range(WEEKS, 0, -1):
            day = (columns.dates[place] - timedelta(weeks=week)).toordinal()
            counting.mover.sold(member, day, watched.total(place), watched.counts(place), [])
            counting.mover.gave(member, day, [("base", 100), ("breakfast", 30), ("streak", 40)])
        return member

    def judge(self) -> None:
        """The look at members, and the kernel: what each rule gives each line."""
        for columns, members in zip(self.columns, self.members, strict=True):
            self.poster.rules.award(columns, self.look(columns, members))

    def judge_and_write(self) -> None:
        """The same, and the entries as the text of ledger records."""
        for columns, members in zip(self.columns, self.members, strict=True):
            awards = self.poster.rules.award(columns, self.look(columns, members))
            for place in range(len(members)):
                awards.record(place, [], self.fragments)

    def look(self, columns: Columns, members: Sequence[Member]) -> Looks:
        return self.poster.rules.look(columns, members, columns.dates, self.family.budgets)

    def post(self) -> None:
        """The whole of `MemberPoster.post`, with ledger records, for these members."""
        for number, batch in enumerate(self.batches):
            first = number * KERNEL_BATCH
            raws = self.records[first : first + len(batch)]
            routed = [Routed(event, raw.account, first + i, raw.value) for i, (event, raw) in enumerate(zip(batch, raws, strict=True))]
            snapshot = Snapshot()
            snapshot.members = {raw.account: member for raw, member in zip(raws, self.members[number], strict=True)}
            self.family.post(routed, snapshot)

    def compare(self, sample: int) -> None:
        """Kernel and oracle on first purchases.

        Raises:
            VoidRunError: they differ; names the receipt.
        """
        columns = gather(self.poster.compiled, [event.data for event in self.events[:sample]], self.poster.zone)
        rules, looks = self.poster.rules, self.look(columns, [Member(tier="green")] * len(columns.dates))
        awards = rules.award(columns, looks)
        ids = [rule.id for rule in self.poster.compiled.rules]
        source = tomllib.loads(FIFTY_RULES.read_text(encoding="utf-8"))
        for place, event in enumerate(self.events[:sample]):
            look = rules.look_at(looks, place)
            open_ids = {name for row, name in enumerate(ids) if not look.closed[row // 64] >> row % 64 & 1}
            program = source | {"rules": [first_time(rule) for rule in source["rules"] if rule["id"] in open_ids]}
            own = {ids[row]: dict(zip(places, points, strict=True)) for row, _, _, places, points in awards.given(place)}
            if own != {rule: parts for rule, parts in reference.earn(program, msgspec.to_builtins(event.data)).items() if parts}:
                raise VoidRunError(f"receipt {event.data.receipt_id}: kernel and oracle differ")


def first_time(rule: dict[str, Any]) -> dict[str, Any]:
    """A rule to which nobody has come yet, so that all its caps bound the one receipt."""
    cap = rule.get("cap", {})
    bounds = [cap.get("per_receipt"), cap.get("per_member", {}).get("points"), cap.get("budget")]
    least = min((bound for bound in bounds if bound is not None), default=None)
    return rule | {"cap": {} if least is None else {"per_receipt": least}}
