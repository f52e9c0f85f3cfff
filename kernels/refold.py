"""What comes late: all events of the account are judged again in their order, and the ledger gets the difference (DESIGN.md §3, G3).

In: the account's postings, the late one among them. Out: where its member's state and the sheets of its events stand then.
"""

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any, Protocol

from tillstream.kernels.counting import Sums, day_of
from tillstream.kernels.dues import Due, earliest
from tillstream.kernels.fold import Fold, Position, position, sheet_of
from tillstream.kernels.handing import superseded, takeover_of
from tillstream.kernels.member_rules import Given
from tillstream.schemas.ledger import Posting
from tillstream.schemas.member_state import Member, Sheet

EVENT_KINDS = ("sale", "return", "void", "activity", "enrolment", "segments", "merge", "takeover")
"""Postings of events; what fell due is made anew, corrections follow."""


class Versions(Protocol):
    """All versions that may have judged the events."""

    def member_poster(self, version: str | None) -> Any:
        """The `MemberPoster` of the version that a posting names."""

    def member_poster_on(self, day: date) -> Any:
        """The `MemberPoster` of the version in force on a local date."""

    def dues_between(self, member: Member, after: int, until: int) -> list[Due]:
        """What is due later than the date `after`, up to `until`, in order."""


class Refold:
    """One pass over all events of an account. By posting id: the sheets that they stand at then, what each gave, and what fell due."""

    def __init__(self, fold: Fold, versions: Versions, cause: Posting, as_of: int) -> None:
        self.fold = fold
        self.versions = versions
        self.cause = cause
        self.as_of = as_of
        self.sheets: dict[str, Sheet] = {}
        self.given: dict[str, list[Given]] = {}
        self.dues: dict[str, Posting] = {}
        self.back: dict[str, dict[int, tuple[int, int]]] = {}

    def run(self, postings: Iterable[Posting]) -> None:
        """Makes every step, in order; a return that stands before its sale follows it."""
        events = sorted(standing(posting for posting in postings if posting.kind in EVENT_KINDS), key=position)
        known = {posting.posting_id: posting for posting in events}
        early: dict[str, list[Posting]] = {}
        for posting in events:
            self.fall_due(min(day_of(posting), self.as_of))
            sale_id = posting.reverses_posting
            if sale_id is not None and sale_id not in self.sheets:
                early.setdefault(sale_id, []).append(posting)
                continue
            self.step(posting, known)
            for undo in early.pop(posting.posting_id, ()):
                self.step(undo, known)
        self.fall_due(self.as_of)

    def step(self, posting: Posting, known: Mapping[str, Posting]) -> None:
        self.judge_by(known[posting.reverses_posting] if posting.reverses_posting is not None else posting)
        if posting.kind == "sale":
            look, given = self.fold.sale_again(posting)
            self.given[posting.posting_id] = given
            self.sheets[posting.posting_id] = sheet_of(given, look)
        elif posting.reverses_posting is not None:
            sale = known[posting.reverses_posting]
            before = self.back.get(sale.posting_id, {})
            after = whole(sale) if posting.kind == "void" else at_most(summed(before, posting), sale)
            self.sheets[sale.posting_id] = self.fold.came_back(posting, sale, self.sheets[sale.posting_id], before, after)
            self.back[sale.posting_id] = after
        else:
            self.bonus(posting)

    def judge_by(self, posting: Posting) -> None:
        """Goes on by the version that judged a posting."""
        self.fold.rules = self.versions.member_poster(posting.program_version).rules

    def bonus(self, posting: Posting) -> None:
        self.given[posting.posting_id] = self.fold.bonus(posting)
        self.sheets[posting.posting_id] = sheet_of(self.given[posting.posting_id])

    def fall_due(self, until: int) -> None:
        """What is due up to the date `until` and was not yet."""
        member = self.fold.member
        while some := earliest(self.versions.dues_between(member, member.dues_until, until)):
            for due in some:
                posting = self.versions.member_poster_on(due.day).occasions.due(self.cause.account_id or "", due, self.cause)
                self.judge_by(posting)
                self.dues[posting.posting_id] = posting
                self.bonus(posting)


def summed(before: Sums, undo: Posting) -> dict[int, tuple[int, int]]:
    """What has come back of a sale with `undo`, by line number."""
    after = dict(before)
    for number, amount, quantity in zip(undo.line_no, undo.amount, undo.quantity_milli, strict=True):
        there = after.get(number, (0, 0))
        after[number] = there[0] + amount, there[1] + quantity
    return after


def whole(sale: Posting) -> dict[int, tuple[int, int]]:
    """All of a sale: what has come back with its void, also where a later return came before the void."""
    return {number: (amount, quantity) for number, amount, quantity in zip(sale.line_no, sale.amount, sale.quantity_milli, strict=True)}


def at_most(back: dict[int, tuple[int, int]], sale: Posting) -> dict[int, tuple[int, int]]:
    """No more of any line than was bought: a return behind a void brings nothing more."""
    bought = whole(sale)
    return {number: (min(amount, bought[number][0]), min(quantity, bought[number][1])) for number, (amount, quantity) in back.items()}


def is_late(posting: Posting, last: Position) -> bool:
    """Whether an event stands before the last one of its account; a takeover may have been known otherwise."""
    return position(posting) < last or (posting.kind == "takeover" and position(posting) == last)


def standing(postings: Iterable[Posting]) -> list[Posting]:
    """Events without what was taken over and is known otherwise by now."""
    found = list(postings)
    gone = superseded((each.posting_id, takeover) for each in found if (takeover := takeover_of(each)) is not None)
    return [each for each in found if each.posting_id not in gone]

