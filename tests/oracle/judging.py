"""Rules in their order, what each offers, and the room that its caps leave, in; points by rule and place, out (DESIGN.md §5, 1 to 6).

A place is the index of a line in the receipt; an event without lines has the one place 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from tests.oracle.facts import Event, Program
from tests.reference import applies, award, eligible, spread

Given = dict[str, dict[int, int]]
Room = Callable[[dict[str, Any]], list[int]]


@dataclass(frozen=True)
class Offer:
    """An applying rule's award before caps, and how it would be spread."""

    points: int
    places: list[int]
    weights: list[int]
    numbers: list[int]


def judge(program: Program, offer: Callable[[dict[str, Any], Given], Offer | None], room: Room) -> Given:
    """Caps, stacking and spreading of what the rules offer; zeros left out."""
    rules, groups = program["rules"], program.get("groups", {})
    given: Given = {}
    totals: dict[str, int] = {}
    for rule in rules:
        offered = offer(rule, given)
        if offered is None:
            continue
        group = rule.get("group")
        stacking = groups.get(group, {}).get("stacking", "all")
        rivals = [other["id"] for other in rules if group is not None and other.get("group") == group and other["id"] in totals]
        if stacking == "first" and rivals:
            continue
        total = min([offered.points, *room(rule)])
        if stacking == "best":
            if any(totals[other] >= total for other in rivals):
                continue
            for other in rivals:
                del totals[other], given[other]
        totals[rule["id"]] = total
        given[rule["id"]] = dict(zip(offered.places, spread(total, offered.weights, offered.numbers), strict=True))
        if rule.get("exclusive"):
            break
    return {rule: {place: points for place, points in parts.items() if points} for rule, parts in given.items()}


def judge_receipt(program: Program, sale: Event, shares: list[int], zone: ZoneInfo, allowed: set[str], room: Room) -> Given:
    """`shares` is what a points tender paid of each line, `allowed` the rules whose member terms hold."""
    lines = sale["lines"]

    def offer(rule: dict[str, Any], given: Given) -> Offer | None:
        chosen = eligible(rule, lines) if rule["id"] in allowed and applies(rule, sale, zone) else []
        if not chosen:
            return None
        whole = rule.get("earn_on_points_tender", False)
        weights = [lines[i]["amount"] - (0 if whole else shares[i]) for i in chosen]
        return Offer(award(rule, sum(weights), chosen, lines, given), chosen, weights, [lines[i]["line_no"] for i in chosen])

    return judge(program, offer, room)


def judge_event(program: Program, sizes: dict[str, int], room: Room) -> Given:
    """Bonuses for what is no receipt: `sizes` says what each applying rule's award would be."""

    def offer(rule: dict[str, Any], given: Given) -> Offer | None:
        return Offer(sizes[rule["id"]], [0], [1], [0]) if rule["id"] in sizes else None

    return judge(program, offer, room)
