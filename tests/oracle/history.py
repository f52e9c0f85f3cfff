"""A history in any order in; out: its events once each, in the order in which they count, and the accounts that they belong to."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from operator import attrgetter

from tests.oracle.facts import Event
from tillstream.kernels.keys import key_of
from tillstream.schemas.events import AccountEvent, Malformed, MemberEvent, decode

AccountOf = Callable[[Event], str | None]

REGISTRY = {f"member.{what}" for what in ("identity_added", "merged", "unmerged", "household_changed", "consent_changed", "erased")}
"""Events that no rule looks at: they only say whose the others are."""

MERGES = {"member.merged", "member.unmerged"}
"""Of these, those from which on rules look at two accounts as one, or no longer."""


@dataclass(frozen=True)
class Placed:
    """An event at its place: its instant and its natural key."""

    instant: datetime
    key: str
    event: Event


@dataclass
class History:
    """`as_of` is the largest date of a tick: what falls due by it is due. `refused` are malformed events and conflicts, by id."""

    placed: list[Placed]
    registry: list[Placed]
    as_of: date | None
    duplicates: int = 0
    refused: dict[str, str] = field(default_factory=dict)


def arranged(events: list[Event]) -> History:
    """First arrivals in the order of (instant, key); a return or void stands behind its sale."""
    first: dict[str, Placed] = {}
    history = History([], [], max((date.fromisoformat(e["data"]["date"]) for e in events if e["type"] == "clock.tick"), default=None))
    for event in events:
        if event["type"] == "clock.tick":
            continue
        try:
            instant, key = instant_of(event), natural_key_of(event)
        except Malformed as problem:
            history.refused[event["id"]] = problem.code
            continue
        if key not in first:
            first[key] = Placed(instant, key, event)
        elif first[key].event["data"] == event["data"]:
            history.duplicates += 1
        else:
            history.refused[event["id"]] = "conflict"
    ordered = sorted(first.values(), key=attrgetter("instant", "key"))
    history.registry = [placed for placed in ordered if placed.event["type"].startswith("member.")]
    ordered = [placed for placed in ordered if placed.event["type"] not in REGISTRY]
    sales = {receipt_of(placed.event) for placed in ordered if placed.event["type"] == "receipt.sale"}
    early: dict[tuple[str, str], list[Placed]] = {}
    seen: set[tuple[str, str]] = set()
    for placed in ordered:
        sale = sale_of(placed.event)
        if sale in sales - seen:
            early.setdefault(sale, []).append(placed)
        else:
            history.placed.append(placed)
        if placed.event["type"] == "receipt.sale":
            seen.add(receipt_of(placed.event))
            history.placed += [Placed(placed.instant, late.key, late.event) for late in early.get(receipt_of(placed.event), [])]
    return history


def instant_of(event: Event) -> datetime:
    """When it happened: receipts when they were issued, everything else at the envelope's time."""
    return datetime.fromisoformat(event["data"].get("issued_at", event["time"]) if "lines" in event["data"] else event["time"])


def natural_key_of(event: Event) -> str:
    """The key that our kernels give it; events of the registry, which have none, by type, source and id."""
    if event["type"] in REGISTRY - MERGES:
        return json.dumps((event["type"], event["source"], event["id"]))
    typed = decode(json.dumps(event).encode())
    assert isinstance(typed, AccountEvent | MemberEvent)
    return key_of(typed)


def receipt_of(event: Event) -> tuple[str, str]:
    return event["source"], event["data"]["receipt_id"]


def sale_of(event: Event) -> tuple[str, str] | None:
    """The sale that a return or void is about."""
    if event["type"] == "receipt.return":
        return event["data"].get("original_source") or event["source"], event["data"]["original_receipt_id"]
    return receipt_of(event) if event["type"] == "receipt.void" else None


def identities(history: History) -> AccountOf:
    """Whose event it is by the whole history's identities: each leads to the member that enrolled it last; unknown ones to themselves.

    Of a member that was merged by then, it is the other one's. What a household's members do from their joining until their leaving is the
    household's, but for transfers, which are between them.
    """
    known: dict[tuple[str, str], str] = {}
    for placed in history.registry:
        data = placed.event["data"]
        for identity in data.get("identities", []) + ([data["identity"]] if "identity" in data else []):
            known[identity["scheme"], identity["value"]] = data["member_id"]

    def member_of(event: Event) -> str | None:
        if event["type"] in {"member.enrolled", "member.segments_changed"}:
            return str(event["data"]["member_id"])
        identity = event["data"].get("member")
        if identity is None:
            return None
        scheme, value = identity["scheme"], identity["value"]
        return str(value) if scheme == "member" else known.get((scheme, value), f"{scheme}:{value}")

    def account_of(event: Event) -> str | None:
        member = member_of(event)
        if member is None:
            return None
        known_then = [fact for fact in history.registry if fact.instant <= instant_of(event)]
        person = root(member, merged(known_then))
        household = None if event["type"] == "points.transfer" else household_of(person, known_then)
        return household or person

    return account_of


def in_the_end(history: History) -> Callable[[str], str]:
    """The account that one is part of by all merges: to spending and expiry, accounts that are merged are one."""
    into = merged(history.registry)
    return lambda account: root(account, into)


def changes(history: History) -> list[tuple[Placed, str, str | None, str | None]]:
    """The merges and unmerges in their order, and whom each leads from one account into another; None: into none."""
    found: list[tuple[Placed, str, str | None, str | None]] = []
    for number, placed in enumerate(history.registry):
        before, after = merged(history.registry[:number]), merged(history.registry[: number + 1])
        found += [(placed, name, before.get(name), after.get(name)) for name in before | after if before.get(name) != after.get(name)]
    return found


def household_of(member: str, registry: list[Placed]) -> str | None:
    """The household that a member said last to belong to."""
    household = None
    for placed in registry:
        data = placed.event["data"]
        says = placed.event["type"] == "member.household_changed" or data.get("household_id") is not None
        if says and data.get("member_id") == member:
            household = data["household_id"]
    return household


def person_of(event: Event, history: History) -> str:
    """Who enrols: a member that is merged is the one into which it is."""
    return root(event["data"]["member_id"], merged([fact for fact in history.registry if fact.instant <= instant_of(event)]))


def merged(registry: list[Placed]) -> dict[str, str]:
    """Who is merged into whom after these facts; a merge that closes a circle does not count."""
    into: dict[str, str] = {}
    for placed in registry:
        data = placed.event["data"]
        if placed.event["type"] == "member.unmerged" and into.get(data["from"]) == data["into"]:
            del into[data["from"]]
        if placed.event["type"] == "member.merged":
            others = {name: target for name, target in into.items() if name != data["from"]}
            if root(data["into"], others) != data["from"]:
                into = others | {data["from"]: data["into"]}
    return into


def root(member: str, into: dict[str, str]) -> str:
    return root(into[member], into) if member in into else member
