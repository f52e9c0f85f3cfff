"""What is noted of every event of an account, since some version of the programs asks for it, whichever version judges the event.

In: the programs of all versions, also of those that hold on no date any more: their sales are judged by them still. Out: the goods to watch
for, the rules whose awards are noted, and the units that may qualify for tiers.
So a condition, a cap or a tier of a version finds what was done before it (docs/adr/0033).
"""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from tillstream.kernels.rules import watches
from tillstream.schemas.programs import Program, Rule


class Asked(NamedTuple):
    """What is noted.

    watches: goods to be counted, by id (rules.py); once: ids of rules that give once a period; capped: those with a cap per member; units:
    those in which tiers are counted. mark: a hash of it all, which a state carries whose sums have it.
    """

    watches: Mapping[str, Rule]
    once: frozenset[str]
    capped: frozenset[str]
    units: frozenset[str]
    mark: str


def asked(programs: Iterable[Program]) -> Asked:
    """What some programs ask for together."""
    there = list(programs)
    goods = {name: rule for program in there for name, rule in watches(program).items()}
    rules = [rule for program in there for rule in program.rules]
    once = frozenset(rule.id for rule in rules if rule.once is not None)
    capped = frozenset(rule.id for rule in rules if rule.cap.per_member is not None)
    units = frozenset(qualifying_unit(program) for program in there) - {""}
    said = msgspec.json.encode([sorted(names) for names in (goods, once, capped, units)])
    return Asked(dict(sorted(goods.items())), once, capped, units, blake2b(said, digest_size=4).hexdigest())


def qualifying_unit(program: Program) -> str:
    """The unit in which tiers are counted, "" where none is."""
    return program.tiers.window.unit if program.tiers is not None and program.tiers.window.count == "points" else ""
