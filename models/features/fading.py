"""Sums that fade: what happened a half-life ago counts half.

    sum(t) = Σ weight_i · 2^(-(t - t_i) / half_life)        over the events i

Sums stand at the time of the latest event. An event that comes late is faded to that time before it is added, so no order of arrival
loses or doubles anything; the sums differ by rounding only. (Exponential decay as in "Forward Decay: A Practical Time Decay Model for
Streaming Systems", ICDE 2009.)
"""

from collections.abc import Iterable, Mapping, Sequence
from heapq import nlargest
from math import exp2
from typing import TypeVar

from msgspec import Struct

DAY_MS = 86_400_000

Half = Sequence[float]
"""The half-life of each sum, milliseconds."""


class Fading(Struct, frozen=True, array_like=True, gc=False):
    """Some sums as they stand at `at_ms`, milliseconds since 1970."""

    at_ms: int
    sums: tuple[float, ...]


E = TypeVar("E")


def added(fading: Fading | None, half: Half, at_ms: int, weights: Sequence[float]) -> Fading:
    """The sums with an event of `at_ms` added, one weight a sum.

    >>> added(Fading(0, (4.0,)), [1000], 2000, [1.0])
    Fading(at_ms=2000, sums=(2.0,))
    >>> added(Fading(2000, (4.0,)), [1000], 0, [1.0])
    Fading(at_ms=2000, sums=(4.25,))
    """
    if fading is None:
        return Fading(at_ms, tuple(map(float, weights)))
    age_ms = at_ms - fading.at_ms
    if age_ms >= 0:
        sums = [value * exp2(-age_ms / life) + weight for value, life, weight in zip(fading.sums, half, weights, strict=True)]
        return Fading(at_ms, tuple(sums))
    sums = [value + weight * exp2(age_ms / life) for value, life, weight in zip(fading.sums, half, weights, strict=True)]
    return Fading(fading.at_ms, tuple(sums))


def faded(fading: Fading, half: Half, at_ms: int) -> tuple[float, ...]:
    """The sums at `at_ms`; before their own time they are as they stand, since nothing fades backwards."""
    age_ms = max(0, at_ms - fading.at_ms)
    return tuple([value * exp2(-age_ms / life) for value, life in zip(fading.sums, half, strict=True)])


def together(many: Iterable[tuple[float, ...]], width: int) -> tuple[float, ...]:
    """The sums of several, one by one; none: zeros.

    >>> together([(1.0, 2.0), (3.0, 4.0)], 2), together([], 2)
    ((4.0, 6.0), (0.0, 0.0))
    """
    return tuple(map(float, map(sum, zip(*many, strict=True)))) or (0.0,) * width


def strongest(entries: Mapping[str, E], count_max: int, strengths: Mapping[str, float]) -> dict[str, E]:
    """The `count_max` entries of the greatest strength, of equal ones those whose names come first; the others leave.

    >>> strongest({"a": 1, "b": 2, "c": 3}, 2, {"a": 0.5, "b": 0.5, "c": 0.7})
    {'c': 3, 'a': 1}
    """
    names = nlargest(count_max, sorted(entries), key=lambda name: strengths[name])
    return {name: entries[name] for name in names}
