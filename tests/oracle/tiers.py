"""Tiers: what qualifies so far in, the tier and its window out (semantics: up at once, down at the end of a window)."""

from datetime import date
from typing import Any

from tests.oracle.calendar import DAY, Interval, months_after, months_period
from tests.oracle.facts import Account
from tests.oracle.terms import sales_in


def levels_of(tiers: dict[str, Any]) -> list[str]:
    return [level["id"] for level in tiers["levels"]]


def start(account: Account, tiers: dict[str, Any]) -> None:
    """The lowest level, if it begins at 0, else no tier."""
    lowest = tiers["levels"][0]
    if not account.tier:
        account.tier = lowest["id"] if lowest["from"] == 0 else ""


def qualifying(account: Account, window: dict[str, Any], interval: Interval) -> int:
    """Spend, visits or points of these dates so far; what came back counts against the day on which it was bought."""
    first, last = interval
    if window["count"] == "spend":
        return sum(sale.spend for sale in sales_in(account, interval))
    if window["count"] == "visits":
        return sum(not sale.gone for sale in sales_in(account, interval))
    unit = window.get("unit", "points")
    return sum(grant.left for grant in account.all_grants if grant.unit == unit and first <= grant.day <= last and grant.earned)


def running(window: dict[str, Any], day: date) -> Interval:
    """The dates that count on `day`."""
    if window.get("kind", "rolling") == "calendar":
        return months_period(day, window["months"])
    return months_after(day, -window["months"]) + DAY, day


def window_end(window: dict[str, Any], day: date) -> date:
    """The last day of a window that begins on `day`."""
    if window.get("kind", "rolling") == "calendar":
        return months_period(day, window["months"])[1]
    return months_after(day, window["months"])


def window_of(account: Account, tiers: dict[str, Any], day: date) -> date | None:
    """The last day of a window that begins on `day`; a level that costs nothing is not looked at again."""
    costs = {level["id"]: level["from"] for level in tiers["levels"]}
    return window_end(tiers["window"], day) if costs.get(account.tier or "") else None


def risen(account: Account, tiers: dict[str, Any], day: date) -> list[str]:
    """Raises the tier as far as the count reaches; the levels passed on the way, the new one last."""
    start(account, tiers)
    count = qualifying(account, tiers["window"], running(tiers["window"], day))
    names = levels_of(tiers)
    reached = [level["id"] for level in tiers["levels"] if level["from"] <= count]
    before = names.index(account.tier) if account.tier in names else -1
    if not reached or names.index(reached[-1]) <= before:
        return []
    account.tier = reached[-1]
    account.tier_last = window_of(account, tiers, day)
    return reached[before + 1 :]


def window_is_over(account: Account, day: date) -> bool:
    return account.tier_last is not None and day == account.tier_last + DAY


def decide(account: Account, tiers: dict[str, Any], day: date) -> None:
    """On the day after a window: stay if the window just ended reaches the level, else fall as the level says; a new window begins."""
    names = levels_of(tiers)
    level = next(level for level in tiers["levels"] if level["id"] == account.tier)
    count = qualifying(account, tiers["window"], running(tiers["window"], day - DAY))
    downgrade = level.get("downgrade", "to_level")
    if count < level["from"] and downgrade != "never":
        reached = [other["id"] for other in tiers["levels"] if other["from"] <= count]
        one_down = ["", *names][names.index(level["id"])]
        account.tier = one_down if downgrade == "one_down" else ["", *reached][-1]
    begun = day if tiers["window"].get("kind") == "calendar" else day - DAY  # So no day is in two windows, and none in neither.
    account.tier_last = window_of(account, tiers, begun)


def adopt(account: Account, other: Account, tiers: dict[str, Any]) -> None:
    """What is merged into an account brings its tier along, where that is the better one, or holds longer."""
    start(account, tiers)
    start(other, tiers)
    names = levels_of(tiers)
    here, there = (names.index(each.tier) if each.tier in names else -1 for each in (account, other))
    if (there, other.tier_last or date.min) > (here, account.tier_last or date.min):
        account.tier, account.tier_last = other.tier, other.tier_last
