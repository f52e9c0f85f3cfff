"""Tiers: up at once, down at the end of a window that no longer reaches the level (DESIGN.md §6).

What qualifies is counted apart from what can be spent: `spend`, `visits` or `points/<unit>` of the member's state.
"""

from datetime import date
from math import inf

from tillstream.kernels.expiry import months_later
from tillstream.kernels.periods import Span, calendar_months, last_months
from tillstream.kernels.terms import total
from tillstream.schemas.member_state import Member
from tillstream.schemas.programs import Level, Tiers


def counter_of(tiers: Tiers) -> str:
    """The counter by which levels are reached."""
    return f"points/{tiers.window.unit}" if tiers.window.count == "points" else tiers.window.count


def start(tiers: Tiers, member: Member) -> None:
    """A member without a tier, a new one or by an older version, is on the lowest level, if that costs nothing."""
    if not member.tier:
        member.tier = tiers.levels[0].id if tiers.levels[0].from_ == 0 else ""


def advance(tiers: Tiers, member: Member, day: int) -> None:
    """Decides all windows that ended before the date `day`."""
    start(tiers, member)
    while 0 < member.window_end < day:
        last = date.fromordinal(member.window_end)
        reached = total(member.counts.get(counter_of(tiers)), span_of(tiers, last))
        place = place_of(tiers, member.tier)
        if place >= 0 and reached < tiers.levels[place].from_:
            place = lowered(tiers.levels, place, reached)
        settle_on(tiers, member, place, date.fromordinal(member.window_end + 1) if is_calendar(tiers) else last)


def rise(tiers: Tiers, member: Member, day: date) -> bool:
    """Raises the tier by one level, if the window up to `day` reaches more than it has; whether it did."""
    place = place_of(tiers, member.tier) + 1
    if place == len(tiers.levels) or total(member.counts.get(counter_of(tiers)), span_of(tiers, day)) < tiers.levels[place].from_:
        return False
    settle_on(tiers, member, place, day)
    return True


def next_levels(tiers: Tiers) -> dict[str, float]:
    """By level, what the next one is reached with; from the highest nothing leads on."""
    above = [*(level.from_ for level in tiers.levels[1:]), inf]
    return {level.id: from_ for level, from_ in zip(tiers.levels, above, strict=True)}


def settle_on(tiers: Tiers, member: Member, place: int, day: date) -> None:
    """The member is on the level at `place` (-1: none) from `day` on; a new window begins, if there is a way down."""
    member.tier = tiers.levels[place].id if place >= 0 else ""
    if place < 0 or tiers.levels[place].from_ == 0:
        member.window_end = 0
    elif is_calendar(tiers):
        member.window_end = calendar_months(day, tiers.window.months)[1]
    else:
        member.window_end = months_later(day, tiers.window.months).toordinal()


def lowered(levels: list[Level], place: int, reached: int) -> int:
    """Where a member goes whose window did not reach the level at `place`."""
    downgrade = levels[place].downgrade
    if downgrade == "never":
        return place
    return place - 1 if downgrade == "one_down" else highest(levels, reached)


def highest(levels: list[Level], reached: int) -> int:
    """The place of the highest level that `reached` is enough for; -1: none."""
    return max((place for place, level in enumerate(levels) if level.from_ <= reached), default=-1)


def place_of(tiers: Tiers, tier: str | None) -> int:
    """-1 also for a level that the program no longer has."""
    for place, level in enumerate(tiers.levels):
        if level.id == tier:
            return place
    return -1


def span_of(tiers: Tiers, day: date) -> Span:
    """The dates that count for the window that `day` is in, or ends."""
    months = tiers.window.months
    return calendar_months(day, months) if is_calendar(tiers) else last_months(day, months)


def is_calendar(tiers: Tiers) -> bool:
    return tiers.window.kind == "calendar"
