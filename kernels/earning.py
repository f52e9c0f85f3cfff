"""What a sale earns: one entry per line and rule, and the hold of what is pending first."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta

from msgspec import structs

from tillstream.schemas.ledger import Entries
from tillstream.schemas.programs import Program, Rule
from tillstream.schemas.receipts import Line

Given = list[tuple[int, int, int, list[int], list[int]]]
"""What `award.Kernel` gave one sale: (rule row, basis, award before the cap, places of the lines, points)."""


def accruals(rules: list[Rule], lines: list[Line], given: Given, expiries: dict[str, str | None]) -> Iterator[Entries]:
    """The entries of each rule that gave points; `expiries` is the last day of use per unit, for this sale's local date."""
    for row, basis, award, places, points in given:
        rule = rules[row]
        yield Entries(
            kind="accrual",
            unit=rule.unit,
            points=points,
            line_no=[lines[place].line_no for place in places],
            rule_id=rule.id,
            expires_on=expiries[rule.unit],
            basis=basis,
            award=award,
        )


def pending_first(groups: Iterable[Entries], days: Mapping[str, int], earned: date) -> Iterator[Entries]:
    """Behind each accrual of a rule that has `days` of holding, the hold that makes it pending until the last of them."""
    for group in groups:
        yield group
        if held := days.get(group.rule_id or ""):
            yield Entries(
                kind="hold",
                unit=group.unit,
                points=[-points for points in group.points],
                line_no=group.line_no,
                rule_id=group.rule_id,
                expires_on=group.expires_on,
                until=(earned + timedelta(days=held - 1)).isoformat(),
            )


def pending_too(groups: Iterable[Entries], days: Mapping[str, int], earned: date, as_of: str | None) -> Iterator[Entries]:
    """As `pending_first`; and behind each reversal, while the rule's points are pending as of the latest tick, their release."""
    for group in groups:
        held = days.get(group.rule_id or "")
        until = (earned + timedelta(days=(held or 1) - 1)).isoformat()
        if held and group.kind == "reversal" and (as_of is None or until >= as_of):
            points = [-points for points in group.points]
            yield group
            yield structs.replace(group, kind="release", points=points, until=until, reverses=[])
        else:
            yield from pending_first([group], days, earned)


def holding_days(program: Program) -> dict[str, int]:
    """How long the points of each rule are pending: its own `hold_days`, or its unit's; rules whose points are not are left out."""
    days = {
        rule.id: program.units[rule.unit].hold_days if rule.hold_days is None else rule.hold_days for rule in program.rules
    }
    return {rule: held for rule, held in days.items() if held}
