"""Sheets (what the rules of an event stand at) and the entries that lead from one to the next."""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from tillstream.schemas.ledger import Entries, Posting
from tillstream.schemas.member_state import WHOLE, Look, Sheet
from tillstream.schemas.programs import Rule


class Place(NamedTuple):
    """Where a rule's points for a line stand in the posting that gave them: the number of the entry, and its last day of use."""

    entry: int
    expires_on: str | None


def sheet_of_posting(posting: Posting, rules: Mapping[str, Rule]) -> Sheet:
    """What a posting's rules gave, before anything came back; an exchange is nobody's award."""
    sheet = Sheet({}, {}, posting.look or Look())
    for group in posting.entries:
        rule = rules.get(group.rule_id or "")
        if group.kind != "accrual" or rule is None or rule.on == "balance":
            continue
        lines = sheet.given.setdefault(rule.id, {})
        for number, points in zip(group.line_no or [WHOLE], group.points, strict=True):
            lines[number] = lines.get(number, 0) + points
    return sheet


def entries_between(
    posting: Posting, old: Sheet, new: Sheet, rules: Mapping[str, Rule], expiries: Mapping[str, str | None]
) -> Iterator[Entries]:
    """What moves an event's rules from `old` to `new`: points less are reversed, points more given; one group per rule and direction.

    `posting` is what gave them first; `expiries`, by unit, serve for what it did not give.
    """
    places = places_of(posting)
    for rule_id in dict.fromkeys([*old.given, *new.given]):
        if rule_id not in rules:
            continue
        rule = rules[rule_id]
        before, after = net(old, rule_id), net(new, rule_id)
        changes = {number: after.get(number, 0) - before.get(number, 0) for number in dict.fromkeys([*before, *after])}
        for less in (True, False):
            moved = {number: points for number, points in changes.items() if points and (points < 0) is less}
            for known in (True, False):
                yield from _group(rule, {n: p for n, p in moved.items() if ((rule_id, n) in places) is known}, places, expiries, less=less)


def _group(
    rule: Rule, moved: Mapping[int, int], places: Mapping[tuple[str, int], Place], expiries: Mapping[str, str | None], *, less: bool
) -> Iterator[Entries]:
    if not moved:
        return
    known = [places[rule.id, number] for number in moved if (rule.id, number) in places]
    yield Entries(
        kind="reversal" if less else "accrual",
        unit=rule.unit,
        points=list(moved.values()),
        line_no=line_numbers(moved),
        rule_id=rule.id,
        expires_on=known[0].expires_on if known else expiries[rule.unit],
        reverses=[place.entry for place in known] if less else [],
    )


def net(sheet: Sheet, rule_id: str) -> dict[int, int]:
    """Points of a rule by line, less what was taken back."""
    undone = sheet.undone.get(rule_id, {})
    return {number: points - undone.get(number, 0) for number, points in sheet.given.get(rule_id, {}).items()}


def places_of(posting: Posting) -> dict[tuple[str, int], Place]:
    """The entries by which rules gave lines their points, by rule id and line number."""
    found: dict[tuple[str, int], Place] = {}
    number = 0
    for group in posting.entries:
        if group.kind == "accrual" and group.rule_id is not None:
            for index, line in enumerate(group.line_no or [WHOLE]):
                found[group.rule_id, line] = Place(number + index, group.expires_on)
        number += len(group.points)
    return found


def line_numbers(numbers: Collection[int]) -> list[int]:
    """As entries carry them: none for what is nobody's line."""
    return [] if WHOLE in numbers else list(numbers)
