"""The state of an account's member before each of its events, found by going through them all once more (refold.py).

In: the account's postings, and what the ledger says that rules gave. Out: `Seen` per sale, `Occasion` per chance that other rules had.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import NamedTuple
from zoneinfo import ZoneInfo

from tillstream.kernels.fold import Fold, copied, seen_as
from tillstream.kernels.member_rules import Given, MemberRules
from tillstream.kernels.posted import columns_of
from tillstream.kernels.room import Allowance, Table
from tillstream.schemas.fields import INT64_MAX
from tillstream.schemas.ledger import Posting
from tillstream.schemas.member_state import Judged, Look, Member, Sheet
from tillstream.schemas.programs import Rule


class Seen(NamedTuple):
    """A member's state before an event, and what was left of budgets then, as far as it is known to have mattered."""

    member: Member
    left: dict[str, int]


class Occasion(NamedTuple):
    """Something that other rules than those for receipts answered to, within a posting."""

    posting: Posting
    judged: Judged
    seen: Seen


class Remembered(Allowance):
    """What was left of budgets when an event was judged: the ledger tells it by what it gave; other accounts' events are not known here."""

    def __init__(self) -> None:
        super().__init__(Table(), {})
        self.promised: dict[str, int] = {}

    def left(self, rule: Rule) -> int:
        return self.promised.get(rule.id, INT64_MAX)


class Witness(Fold):
    """A fold that notes what it sees. `sheets`: what the events' rules stand at, by posting id."""

    def __init__(self, rules: MemberRules, zone: ZoneInfo, as_of: int, sheets: Mapping[str, Sheet]) -> None:
        self.remembered = Remembered()
        super().__init__(rules, zone, self.remembered, as_of)
        self.sheets = sheets
        self.sales: dict[str, Seen] = {}
        self.occasions: list[Occasion] = []
        self.posting: Posting

    def sale_again(self, posting: Posting) -> tuple[Look | None, list[Given]]:
        self.posting = posting
        day = date.fromisoformat(posting.day)
        self.reach(day)
        member = copied(self.member)
        self.remember(posting)
        columns = columns_of(posting, self.rules.compiled)
        awards = self.kernel_awards(columns, self.rules.look(columns, [member], [day], self.budgets))
        self.correct(posting, self.rules.given(awards, 0, columns.line_no))
        self.sales[posting.posting_id] = Seen(member, dict(self.remembered.promised))
        return super().sale_again(posting)

    def bonus(self, posting: Posting) -> list[Given]:
        self.posting = posting
        return super().bonus(posting)

    def answers(self, day: date, judged: Judged) -> list[Given]:
        posting, member = self.posting, seen_as(copied(self.member), judged)
        self.remember(posting)
        self.correct(posting, super().answers(day, judged))
        self.occasions.append(Occasion(posting, judged, Seen(member, dict(self.remembered.promised))))
        return super().answers(day, judged)

    def remember(self, posting: Posting) -> None:
        """A rule found in its budget at least what it gave."""
        gave = self.sheets.get(posting.posting_id, Sheet()).given
        capped = [rule for rule in self.counting.rules.values() if rule.cap.budget is not None]
        self.remembered.promised = {rule.id: sum(gave[rule.id].values()) for rule in capped if sum(gave.get(rule.id, {}).values())}

    def correct(self, posting: Posting, trial: Sequence[Given]) -> None:
        """A rule that gave nothing and would have, had its budget not been used up, found nothing in it."""
        gave = self.sheets.get(posting.posting_id, Sheet()).given
        for given in trial:
            if self.counting.rules[given.rule_id].cap.budget is not None and given.rule_id not in gave:
                self.remembered.promised[given.rule_id] = 0
