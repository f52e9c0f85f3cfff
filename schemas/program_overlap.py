"""Whether two rules can apply to the same event, as far as their conditions tell.

    can_meet(a, b)   False only where some condition keeps them apart for certain: other days, other hours, other stores, other tiers, ...
    covers(a, b)     True only where a applies for certain whenever b does: whatever a asks, b asks as well
"""

from collections.abc import Iterable

from tillstream.schemas.program_parts import Goods
from tillstream.schemas.programs import Lines, MemberTerms, Rule

GOODS_KEYS = ("sku", "category", "brand", "kind")

EARNING_KINDS = ["item", "service"]
"""What earns where a rule names no kind (DESIGN.md §4)."""


def can_meet(first: Rule, second: Rule) -> bool:
    """Whether both may apply to one event, and to the same lines of it."""
    a, b = first.when, second.when
    return (
        first.on == second.on
        and _share(a.weekday, b.weekday)
        and (a.hours is None or b.hours is None or (a.hours[0] < b.hours[1] and b.hours[0] < a.hours[1]))
        and not (a.to and b.from_ and a.to < b.from_)
        and not (b.to and a.from_ and b.to < a.from_)
        and _patterns_meet(a.store, b.store)
        and all(_patterns_meet(_goods(first, key), _goods(second, key)) for key in GOODS_KEYS)
        and _members_meet(first.member or MemberTerms(), second.member or MemberTerms())
        and all(_share(values, (second.activity or {}).get(name)) for name, values in (first.activity or {}).items())
    )


def _goods(rule: Rule, key: str) -> list[str] | None:
    patterns: list[str] | None = getattr(rule.lines, key)
    return patterns or (EARNING_KINDS if key == "kind" else None)


def _members_meet(first: MemberTerms, second: MemberTerms) -> bool:
    return (
        _share(first.tier, second.tier)
        and _share(first.kind, second.kind)
        and (first.first_purchase is None or second.first_purchase is None or first.first_purchase == second.first_purchase)
        and all(_share(values, (second.attributes or {}).get(name)) for name, values in (first.attributes or {}).items())
    )


def _share(first: Iterable[object] | None, second: Iterable[object] | None) -> bool:
    """Whether two sets of allowed values have one in common; None allows all."""
    return first is None or second is None or not set(first).isdisjoint(second)


def _patterns_meet(first: list[str] | None, second: list[str] | None) -> bool:
    """Whether some name may match one of each; told by what stands before the first star."""
    return first is None or second is None or any(_may_overlap(a, b) for a in first for b in second)


def _may_overlap(first: str, second: str) -> bool:
    a, b = first.partition("*")[0], second.partition("*")[0]
    if "*" not in first and "*" not in second:
        return first == second
    # `fuel/**` matches `fuel` itself: its slash may be missing.
    a, b = a.rstrip("/") if first.endswith("/**") else a, b.rstrip("/") if second.endswith("/**") else b
    if "*" not in first:
        return first.startswith(b)
    if "*" not in second:
        return second.startswith(a)
    return a.startswith(b) or b.startswith(a)


def covers(wide: Rule, narrow: Rule) -> bool:
    """Whether `wide` applies for certain whenever `narrow` does; only the plain cases are seen: the same condition, or none."""
    a, b = wide.when, narrow.when
    return (
        wide.on == narrow.on
        and wide.once is None
        and wide.member in (None, narrow.member)
        and wide.activity in (None, narrow.activity)
        and all(getattr(a, key) in (None, getattr(b, key)) for key in a.__struct_fields__)
        and (wide.lines == narrow.lines or (wide.lines == Lines() and narrow.lines.kind is None))
        and wide.exclude in (Goods(), narrow.exclude)
    )
