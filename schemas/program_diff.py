"""The difference of two versions of a program, in sentences: what was added, removed, changed key by key.

In: two programs. Out: differences in the order of the file: head, units, groups, tiers, rules, offers, their choice. What is written out
and what is left to its default are the same; so are two files that differ in layout only.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from tillstream.schemas.program_words import award_words, money, value_words, worth_words
from tillstream.schemas.programs import Program, Rule, award_form, ordered

AMOUNTS = (
    *("when.min_amount", "lines.min_amount", "member.spend.min", "member.spend.max"),
    *("trigger.min_amount", "worth.amount_off"),
)
"""Keys of a rule or an offer that are money, shown with their decimals."""

ABSENT = object()


class Difference(NamedTuple):
    """One thing that is not the same; `path` names it: `rules.base.award`, `units.points.expires`."""

    path: str
    kind: Literal["added", "removed", "changed"]
    text: str


def differences(old: Program, new: Program) -> list[Difference]:
    """What `new` has otherwise than `old`."""
    return [
        *_changes("program", "", _flat(old.program), _flat(new.program)),
        *_named("unit", "units", old.units, new.units),
        *_named("group", "groups", old.groups, new.groups),
        *_tiers(old, new),
        *_rules(old, new),
        *_offers(old, new),
        *_changes("offer_choice", "offer choice: ", _flat(old.offer_choice), _flat(new.offer_choice)),
    ]


def _named(noun: str, table: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    for name in [*new, *(name for name in old if name not in new)]:
        if name not in old:
            yield Difference(f"{table}.{name}", "added", f"{noun} {name}: is new" + _told(_flat(new[name])))
        elif name not in new:
            yield Difference(f"{table}.{name}", "removed", f"{noun} {name}: is gone")
        else:
            yield from _changes(f"{table}.{name}", f"{noun} {name}: ", _flat(old[name]), _flat(new[name]))


def _tiers(old: Program, new: Program) -> Iterator[Difference]:
    if old.tiers is None or new.tiers is None:
        if new.tiers is not None:
            names = ", ".join(level.id for level in new.tiers.levels)
            yield Difference("tiers", "added", f"tiers: are new: {names}")
        elif old.tiers is not None:
            yield Difference("tiers", "removed", "tiers: are gone")
        return
    yield from _changes("tiers.window", "tiers: ", _flat(old.tiers.window), _flat(new.tiers.window))
    yield from _named("tier", "tiers", {level.id: level for level in old.tiers.levels}, {level.id: level for level in new.tiers.levels})


def _rules(old: Program, new: Program) -> Iterator[Difference]:
    before, after = {rule.id: rule for rule in old.rules}, {rule.id: rule for rule in new.rules}
    for name in [*after, *(name for name in before if name not in after)]:
        path, subject = f"rules.{name}", f"rule {name}: "
        if name not in before:
            said = {key: value for key, value in _terms(after[name]).items() if key not in {"id", "unit"}}
            yield Difference(path, "added", f"{subject}is new and gives {award_words(after[name])}" + _told(said))
        elif name not in after:
            yield Difference(path, "removed", f"{subject}is gone; it gave {award_words(before[name])}")
        else:
            yield from _award_change(before[name], after[name])
            yield from _changes(path, subject, _terms(before[name]), _terms(after[name]))
    common = before.keys() & after.keys()
    orders = [[rule.id for rule in ordered(program.rules) if rule.id in common] for program in (old, new)]
    if orders[0] != orders[1]:
        text = f"rules: are judged in the order {', '.join(orders[1])} instead of {', '.join(orders[0])}"
        yield Difference("rules", "changed", text)


def _offers(old: Program, new: Program) -> Iterator[Difference]:
    before, after = {offer.id: offer for offer in old.offers}, {offer.id: offer for offer in new.offers}
    for name in [*after, *(name for name in before if name not in after)]:
        path, subject = f"offers.{name}", f"offer {name}: "
        if name not in before:
            said = {key: value for key, value in _flat(after[name]).items() if key != "id" and not key.startswith("worth.")}
            yield Difference(path, "added", f"{subject}is new and gives {worth_words(after[name].worth)}" + _told(said))
        elif name not in after:
            yield Difference(path, "removed", f"{subject}is gone; it gave {worth_words(before[name].worth)}")
        else:
            yield from _changes(path, subject, _flat(before[name]), _flat(after[name]))


def _terms(rule: Rule) -> dict[str, Any]:
    """Everything that a rule says but its award, which is told in one sentence."""
    return {key: value for key, value in _flat(rule).items() if not key.startswith("award.")}


def _award_change(old: Rule, new: Rule) -> Iterator[Difference]:
    """In one sentence; where only the points changed, with the short end "instead of 1"."""
    if old.award == new.award:
        return
    short = award_form(old.award) == award_form(new.award) == "per_amount" and old.award.per_amount == new.award.per_amount
    instead = str(old.award.points) if short else award_words(old)
    yield Difference(f"rules.{new.id}.award", "changed", f"rule {new.id}: gives {award_words(new)} instead of {instead}")


def _changes(path: str, subject: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    """Key by key; a key that is at its default is not there."""
    for key in [*new, *(key for key in old if key not in new)]:
        before, after = old.get(key, ABSENT), new.get(key, ABSENT)
        if before == after:
            continue
        if before is ABSENT:
            text = f"{subject}{_key_words(key)} is now {_shown(key, after)}; it was not given"
        elif after is ABSENT:
            text = f"{subject}{_key_words(key)} is not given any more; it was {_shown(key, before)}"
        else:
            text = f"{subject}{_key_words(key)} is {_shown(key, after)} instead of {_shown(key, before)}"
        kind: Literal["added", "removed", "changed"] = "added" if before is ABSENT else "removed" if after is ABSENT else "changed"
        yield Difference(f"{path}.{key}", kind, text)


def _told(terms: Mapping[str, Any]) -> str:
    return "; " + "; ".join(f"{_key_words(key)}: {_shown(key, value)}" for key, value in terms.items()) if terms else ""


def _key_words(key: str) -> str:
    """A key as a reader says it: `when.weekday` is "when weekday"."""
    return key.replace(".", " ").replace("_", " ")


def _shown(key: str, value: Any) -> str:
    return money(value) if key in AMOUNTS else value_words(value)


def _flat(value: msgspec.Struct, prefix: str = "") -> dict[str, Any]:
    """Keys that are not at their default, those of tables inside joined by dots: {"when.weekday": ["sat"], "priority": 50}."""
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(value):
        item = getattr(value, field.name)
        if isinstance(item, msgspec.Struct):
            found |= _flat(item, f"{prefix}{field.encode_name}.")
        elif item is not None and item != field.default:
            found[prefix + field.encode_name] = item
    return found
