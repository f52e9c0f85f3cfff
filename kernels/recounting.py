"""The sums of an account's state, counted again from its postings when versions ask for more than was counted (docs/adr/0033).

In: the state, the account's postings, and what the rules of each stand at. Out: the state with all sums that are asked for now. They are
sums over what the ledger says, so nothing is judged again, and nothing that was given changes.

Goods that no version looked for when a sale was judged are not in its posting: they stay uncounted.
"""

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Protocol

from msgspec import structs

from tillstream.kernels.counting import Counting, Sums, day_of
from tillstream.kernels.fold import person_of, position
from tillstream.kernels.joining import add
from tillstream.kernels.posted import columns_of
from tillstream.kernels.refold import at_most, summed, whole
from tillstream.kernels.sheets import sheet_of_posting
from tillstream.schemas.ledger import Posting
from tillstream.schemas.member_state import Judged, Member, Sheet

PERSONAL = ("enrolled", "birthday")
"""Rules that give to a person and not to an account."""


class Judges(Protocol):
    """All versions of the programs."""

    def counting_of(self, version: str | None) -> Counting:
        """How what a version judged is counted."""


class Recount:
    """One pass over an account's postings; `sheets` say what came back or was corrected, by posting id."""

    def __init__(self, judges: Judges, sheets: Mapping[str, Sheet]) -> None:
        self.judges = judges
        self.sheets = sheets
        self.member = Member()

    def of(self, member: Member, postings: Iterable[Posting], mark: str) -> Member:
        """The state with its sums counted again; what it took over keeps the sums that it came with."""
        events = sorted(postings, key=position)
        undoing: dict[str, list[Posting]] = {}
        for posting in events:
            if posting.reverses_posting is not None:
                undoing.setdefault(posting.reverses_posting, []).append(posting)
        for posting in events:
            if posting.reverses_posting is None:
                counting = self.judges.counting_of(posting.program_version)
                if posting.kind == "sale":
                    self.sold(counting, posting, undoing.get(posting.posting_id, []))
                self.gave(counting, posting)
        for taken in member.taken.values():
            add(self.member, taken.deeds, 1)
        counts, given, used, used_by = self.member.counts, self.member.given, self.member.used, self.member.used_by
        return structs.replace(member, counts=counts, given=given, used=used, used_by=used_by, asked=mark)

    def sold(self, counting: Counting, sale: Posting, undoing: Iterable[Posting]) -> None:
        """Visits, spend and goods of a sale, less what came back."""
        watched = counting.watching.over(columns_of(sale, counting.compiled))
        counting.mover.sold(self.member, day_of(sale), watched.total(0), watched.counts(0), [])
        before: Sums = {}
        for undo in undoing:
            after = whole(sale) if undo.kind == "void" else at_most(summed(before, undo), sale)
            counting.came_back(self.member, sale, before, after, voided=undo.kind == "void")
            before = after

    def gave(self, counting: Counting, posting: Posting) -> None:
        """What the rules of a posting gave, less what was taken back."""
        sheet = self.sheets.get(posting.posting_id) or sheet_of_posting(posting, counting.rules)
        person, day = person_of(posting.judged or Judged()), date.fromisoformat(posting.day).toordinal()
        for rule_id, lines in sheet.given.items():
            own, rule = self.member.used, counting.rules.get(rule_id)
            if person and rule is not None and rule.on in PERSONAL:
                self.member.used = self.member.used_by.setdefault(person, {})
            counting.mover.gave(self.member, day, [(rule_id, sum(lines.values()))])
            self.member.used = own
            counting.took_back(self.member, rule_id, day, sum(sheet.undone.get(rule_id, {}).values()))
