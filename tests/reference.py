"""The oracle: DESIGN.md §5 on Python integers and Fractions, slow and obvious. Nothing here is shared with the package.

In: a program (the parsed TOML, a dict) and decoded events (dicts). Out: the net points per (account, receipt, line, rule) and the
movements of each account. Everything is recomputed from scratch over the *set* of accepted events, so it cannot depend on their order.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from fractions import Fraction
from math import ceil, floor
from typing import Any
from zoneinfo import ZoneInfo

Event = dict[str, Any]
INT64_MAX = 2**63 - 1
NEVER = ""
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Overflow(Exception):
    """A sum or an award does not fit 64 bits: the receipt is refused."""


def glob_matches(pattern: str, value: str) -> bool:
    """`*` stays inside one segment, `**` spans any number of segments, none included."""
    return segments_match(pattern.split("/"), value.split("/"))


def segments_match(patterns: list[str], segments: list[str]) -> bool:
    if not patterns:
        return not segments
    if patterns[0] == "**":
        return any(segments_match(patterns[1:], segments[skip:]) for skip in range(len(segments) + 1))
    if not segments:
        return False
    one_segment = ".*".join(re.escape(part) for part in patterns[0].split("*"))
    return re.fullmatch(one_segment, segments[0], re.DOTALL) is not None and segments_match(patterns[1:], segments[1:])


def spread(total: int, weights: list[int], line_nos: list[int]) -> list[int]:
    """Largest remainder in proportion to `weights`; all weights zero: equal parts; ties to the lowest line number."""
    if not weights:
        return []
    if sum(weights) == 0:
        weights = [1] * len(weights)
    exact = [Fraction(total * weight, sum(weights)) for weight in weights]
    parts = [floor(share) for share in exact]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(exact[i] - parts[i]), line_nos[i]))
    for i in by_remainder[: total - sum(parts)]:
        parts[i] += 1
    return parts


def rounded(value: Fraction, rounding: str) -> int:
    return {"floor": floor(value), "ceil": ceil(value), "half_up": floor(value + Fraction(1, 2))}[rounding]


def decimal_fraction(value: object) -> Fraction:
    return Fraction(str(value))


def clock(text: str) -> time:
    return time.max if text == "24:00" else time.fromisoformat(text)


def applies(rule: dict[str, Any], sale: Event, zone: ZoneInfo) -> bool:
    when = rule.get("when", {})
    local = datetime.fromisoformat(sale["issued_at"]).astimezone(zone)
    lines = sale["lines"]
    checks = {
        "min_amount": lambda want: sum(line["amount"] for line in lines) >= want,
        "min_positions": lambda want: sum(line["quantity_milli"] > 0 for line in lines) >= want,
        "weekday": lambda want: WEEKDAYS[local.weekday()] in want,
        "hours": lambda want: clock(want[0]) <= local.time() < clock(want[1]),
        "from": lambda want: local.date() >= want,
        "to": lambda want: local.date() <= want,
        "store": lambda want: any(glob_matches(pattern, sale["store_id"]) for pattern in want),
    }
    return all(checks[key](want) for key, want in when.items())


def eligible(rule: dict[str, Any], lines: list[Event]) -> list[int]:
    wanted, excluded = rule.get("lines", {}), rule.get("exclude", {})

    def matches(line: Event, key: str, patterns: list[str]) -> bool:
        value = line.get(key) if key != "kind" else line.get("kind", "item")
        return value is not None and any(glob_matches(pattern, value) for pattern in patterns)

    kinds = {"kind": ["item", "service"]} | {k: v for k, v in wanted.items() if not k.startswith("min_")}
    chosen = [
        i
        for i, line in enumerate(lines)
        if all(matches(line, key, patterns) for key, patterns in kinds.items())
        and not any(matches(line, key, patterns) for key, patterns in excluded.items())
    ]
    enough = sum(lines[i]["amount"] for i in chosen) >= wanted.get("min_amount", 0) and sum(
        lines[i]["quantity_milli"] for i in chosen
    ) >= wanted.get("min_quantity_milli", 0)
    return chosen if enough else []


def award(
    rule: dict[str, Any], basis: int, chosen: list[int], lines: list[Event], given: dict[str, dict[int, int]]
) -> int:
    how, rounding = rule["award"], rule.get("rounding", "floor")
    points = how.get("points")
    if not chosen:
        return 0
    if "per_amount" in how:
        return rounded(basis * decimal_fraction(points) / how["per_amount"], rounding)
    if "fixed" in how:
        return int(how["fixed"])
    if "per_item" in how:
        return sum(int(points) * (lines[i]["quantity_milli"] // (1000 * how["per_item"])) for i in chosen)
    if "per_line" in how:
        return int(points) * (len(chosen) // how["per_line"])
    if "steps" in how:
        return max((step for step in how["steps"] if step[0] <= basis), default=[0, 0])[1]
    base = sum(given.get(how["of"], {}).get(i, 0) for i in chosen)
    return rounded((decimal_fraction(how["multiply"]) - 1) * base, rounding)


def earn(program: dict[str, Any], sale: Event) -> dict[str, dict[int, int]]:
    """Points by rule id and line index for one sale, zeros left out.

    Raises:
        Overflow: as the kernel must.
    """
    zone = ZoneInfo(program["program"]["time_zone"])
    groups = program.get("groups", {})
    lines = sale["lines"]
    numbers = [line["line_no"] for line in lines]
    if max(sum(line["amount"] for line in lines), sum(line["quantity_milli"] for line in lines)) > INT64_MAX:
        raise Overflow
    tender = sum(t["amount"] for t in sale.get("tenders", []) if t["type"] == "points")
    shares = spread(tender, [line["amount"] for line in lines], numbers)
    rules = sorted(program["rules"], key=lambda rule: rule.get("priority", 100))
    given: dict[str, dict[int, int]] = {}
    totals: dict[str, int] = {}
    for rule in rules:
        chosen = eligible(rule, lines) if applies(rule, sale, zone) else []
        if not chosen:
            continue
        group, stacking = rule.get("group"), groups.get(rule.get("group"), {}).get("stacking", "all")
        rivals = [other["id"] for other in rules if group is not None and other.get("group") == group and other["id"] in totals]
        if stacking == "first" and rivals:
            continue
        net = rule.get("earn_on_points_tender", False)
        weights = [lines[i]["amount"] - (0 if net else shares[i]) for i in chosen]
        total = award(rule, sum(weights), chosen, lines, given)
        if total > INT64_MAX:
            raise Overflow
        total = min(total, rule.get("cap", {}).get("per_receipt", total))
        if stacking == "best":
            if any(totals[other] >= total for other in rivals):
                continue
            for other in rivals:
                del totals[other], given[other]
        totals[rule["id"]] = total
        parts = spread(total, weights, [numbers[i] for i in chosen])
        given[rule["id"]] = dict(zip(chosen, parts, strict=True))
        if rule.get("exclusive"):
            break
    return {rule: {i: p for i, p in parts.items() if p} for rule, parts in given.items()}


def undone(points: int, returned: int, bought: int, returned_milli: int, bought_milli: int) -> int:
    """What is reversed so far of `points` a line earned: by amount, by quantity where the line cost nothing."""
    if bought == 0:
        returned, bought = returned_milli, bought_milli
    if returned >= bought:
        return points
    return points * returned // bought


@dataclass
class Outcome:
    duplicates: int = 0
    waiting: int = 0
    rejected: int = 0
    net: dict[tuple[str, str, int, str], int] = field(default_factory=dict)
    balances: dict[str, int] = field(default_factory=dict)


def replay(program: dict[str, Any], events: list[Event]) -> Outcome:
    """What a history of receipts must come to, whatever the order it came in."""
    outcome = Outcome()
    seen: dict[tuple[str, str, bool], Event] = {}
    for event in events:
        key = (event["source"], event["data"]["receipt_id"], event["type"] == "receipt.void")
        if key in seen:
            outcome.duplicates += seen[key]["data"] == event["data"]
            outcome.rejected += seen[key]["data"] != event["data"]
        else:
            seen[key] = event
    sales = {(e["source"], e["data"]["receipt_id"]): e["data"] for e in seen.values() if e["type"] == "receipt.sale"}
    returns: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in seen.values():
        data = event["data"]
        if event["type"] == "receipt.sale":
            continue
        original = (data.get("original_source", event["source"]), data.get("original_receipt_id", data["receipt_id"]))
        if original in sales:
            returns[original].append(event)
        else:
            outcome.waiting += 1
    for key, sale in sales.items():
        settle(program, sale, returns[key], outcome)
    return outcome


def settle(program: dict[str, Any], sale: Event, returns: list[Event], outcome: Outcome) -> None:
    if "member" not in sale:
        return
    account = sale["member"]["value"]
    amount: dict[int, int] = defaultdict(int)
    milli: dict[int, int] = defaultdict(int)
    for event in returns:
        for line in sale["lines"] if event["type"] == "receipt.void" else event["data"]["lines"]:
            number = line.get("original_line_no", line["line_no"])
            amount[number] += line["amount"]
            milli[number] += line["quantity_milli"]
    balance = outcome.balances.get(account, 0)
    for rule, parts in earn(program, sale).items():
        for i, points in parts.items():
            line = sale["lines"][i]
            number = line["line_no"]
            left = points
            if number in amount:
                left -= undone(points, amount[number], line["amount"], milli[number], line["quantity_milli"])
            if left:
                outcome.net[account, sale["receipt_id"], number, rule] = left
            balance += left
    numbers = [line["line_no"] for line in sale["lines"]]
    for tender in sale.get("tenders", []):
        if tender["type"] == "points":
            paid = spread(tender["points"], [line["amount"] for line in sale["lines"]], numbers)
            for line, points in zip(sale["lines"], paid, strict=True):
                number = line["line_no"]
                back = undone(points, amount[number], line["amount"], milli[number], line["quantity_milli"])
                balance -= points - (back if number in amount else 0)
    outcome.balances[account] = balance


def expires_on(day: date, after_months: int = 0, after_days: int = 0, at: str = "day") -> date:
    """The last day on which points counted from `day` can be used."""
    month = day.month - 1 + after_months
    year, month = day.year + month // 12, month % 12 + 1
    last = (date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)).day
    due = date(year, month, min(day.day, last)) + timedelta(days=after_days)
    ends = {
        "day": due,
        "month_end": date(due.year + due.month // 12, due.month % 12 + 1, 1) - timedelta(days=1),
        "quarter_end": date(due.year + (due.month + 2) // 3 // 4, (due.month + 2) // 3 % 4 * 3 + 1, 1) - timedelta(days=1),
        "year_end": date(due.year, 12, 31),
    }
    return ends[at]


def next_fixed(day: date, dates: list[str]) -> date:
    """The first day from `day` on that a yearly `MM-DD` names, found day by day; 02-29 stands for the 28th where there is none."""
    while True:
        names = {f"{day:%m-%d}"}
        if names == {"02-28"} and (day + timedelta(days=1)).month == 3:
            names.add("02-29")
        if names & set(dates):
            return day
        day += timedelta(days=1)


def match_lots(credits: dict[str, int], debits: dict[str, int], as_of: str | None) -> tuple[dict[str, int], dict[str, int], int]:
    """Lots, lapsed points and debt, one point at a time: each point spent takes the usable point that expires first."""
    points = [expiry for expiry in sorted(credits, key=lambda e: e or "9999") for _ in range(credits[expiry])]
    debt = 0
    for day in sorted(debits):
        for _ in range(debits[day]):
            usable = [expiry for expiry in points if expiry == NEVER or expiry >= day]
            if usable:
                points.remove(usable[0])
            else:
                debt += 1
    lapsed = [expiry for expiry in points if as_of is not None and expiry != NEVER and expiry < as_of]
    kept = [expiry for expiry in points if not (as_of is not None and expiry != NEVER and expiry < as_of)]
    return {e: kept.count(e) for e in kept}, {e: lapsed.count(e) for e in lapsed}, debt
