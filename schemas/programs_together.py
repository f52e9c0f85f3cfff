"""Programs side by side on the same accounts, and one program after another: what they must agree on.

In: versions of programs. Out: what does not agree, as mistakes whose path begins with the program's id.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from tillstream.schemas.mistakes import Mistake
from tillstream.schemas.program_file import Versioned
from tillstream.schemas.programs import Program


def check_together(versions: Sequence[Versioned]) -> list[Mistake]:
    """What keeps `versions`, at most one of each program, from being in force on the same day."""
    found = list(_heads_differ(versions))
    owners: dict[tuple[str, str], str] = {}
    units: dict[str, tuple[str, Any]] = {}
    tiers: tuple[str, Any] | None = None
    for program, _ in versions:
        name = program.program.id
        for unit_name, unit in program.units.items():
            owner, declared = units.setdefault(unit_name, (name, unit))
            if declared != unit:
                message = f"program {owner!r} declares the unit otherwise"
                found.append(Mistake(f"{name}: $.units.{unit_name}", message, "units are shared: the same terms in all programs"))
        if program.tiers is not None:
            tiers = tiers or (name, program.tiers)
            if tiers[1] != program.tiers:
                message = f"program {tiers[0]!r} declares other tiers"
                found.append(Mistake(f"{name}: $.tiers", message, "a member has one tier: the same levels in all programs that have any"))
        for noun, ids in (("rule", [rule.id for rule in program.rules]), ("offer", [offer.id for offer in program.offers])):
            for index, item_id in enumerate(ids):
                owner = owners.setdefault((noun, item_id), name)
                if owner != name:
                    message = f"{item_id!r} is {'a' if noun == 'rule' else 'an'} {noun} of program {owner!r} as well"
                    hint = f"{noun} ids are unique over all programs in force together"
                    found.append(Mistake(f"{name}: $.{noun}s[{index}].id", message, hint))
    return found


def check_succession(old: Program, new: Program) -> list[Mistake]:
    """What keeps `new` from following `old`: balances of a unit that nobody declares any more, amounts in another currency."""
    name = new.program.id
    found = list(_heads_differ([Versioned(old, ""), Versioned(new, "")]))
    for unit in old.units:
        if unit not in new.units:
            message = f"is not declared any more, and accounts may hold some of the unit {unit!r}"
            found.append(Mistake(f"{name}: $.units.{unit}", message, "keep the unit; without rules nobody earns it"))
    return found


def _heads_differ(versions: Sequence[Versioned]) -> Iterator[Mistake]:
    """Local dates decide which version judges, so all must count them alike; and a receipt has one currency."""
    for program, _ in versions[1:]:
        first, head = versions[0].program.program, program.program
        for key in ("currency", "time_zone"):
            wanted, found = getattr(first, key), getattr(head, key)
            if wanted != found:
                yield Mistake(f"{head.id}: $.program.{key}", f"{found!r} is not the {wanted!r} of program {first.id!r}")
