"""Makes a disagreement of engine and oracle small: programs and events in, as few rules, keys and events as still show it out.

Delta debugging: parts are left out, large ones first, as long as what is left still fails.
"""

import tomllib
from collections.abc import Callable, Iterator
from copy import deepcopy
from decimal import Decimal
from functools import partial
from typing import Any

from tests.engine import engine_outcome
from tests.oracle import outcome
from tests.strategies import Event, Program, program_text
from tests.told import told
from tillstream.schemas.mistakes import InvalidProgram

Fails = Callable[[list[Program], list[Event]], bool]


def disagrees(programs: list[Program], events: list[Event]) -> bool:
    """Whether engine and oracle tell different outcomes; a program that the checker refuses shows nothing."""
    texts = [program_text(program) for program in programs]
    try:
        found = told(engine_outcome(texts, events))
    except InvalidProgram:
        return False
    return found != told(outcome([tomllib.loads(text, parse_float=Decimal) for text in texts], events))


def shrunk(programs: list[Program], events: list[Event], fails: Fails = disagrees) -> tuple[list[Program], list[Event]]:
    """The same failure, smaller: events, then programs, until neither gives way."""
    size = len(events) + len(repr(programs))
    events = fewer(events, partial(fails, programs))
    programs = simpler(programs, lambda some: fails(some, events))
    if len(events) + len(repr(programs)) < size:
        return shrunk(programs, events, fails)
    return programs, events


def fewer(events: list[Event], fails: Callable[[list[Event]], bool]) -> list[Event]:
    """Leaves out runs of events, of half the history first, single ones last."""
    length = max(1, len(events) // 2)
    while True:
        start = 0
        while start < len(events):
            rest = events[:start] + events[start + length :]
            if fails(rest):
                events = rest
            else:
                start += length
        if length == 1:
            return events
        length //= 2


def simpler(programs: list[Program], fails: Callable[[list[Program]], bool]) -> list[Program]:
    """Leaves out versions, rules, and keys of rules, units and the program, one by one."""
    moved = True
    while moved:
        moved = False
        for less in with_one_less(programs):
            if fails(less):
                programs, moved = less, True
                break
    return programs


def with_one_less(programs: list[Program]) -> Iterator[list[Program]]:
    """Each way to leave one thing out."""
    for place in range(len(programs)):
        if len(programs) > 1:
            yield programs[:place] + programs[place + 1 :]
    for place, program in enumerate(programs):
        for path in paths_of(program):
            less = deepcopy(programs)
            there: Any = less[place]
            for step in path[:-1]:
                there = there[step]
            del there[path[-1]]
            yield less


def paths_of(program: Program) -> Iterator[tuple[str | int, ...]]:
    """What a program may do without: rules, tiers, groups, and optional keys."""
    for place, rule in enumerate(program["rules"]):
        yield "rules", place
        yield from (("rules", place, key) for key in rule if key not in ("id", "award"))
    yield from ((table,) for table in ("tiers", "groups") if table in program)
    for name, unit in program["units"].items():
        yield "units", name
        yield from (("units", name, key) for key in unit)
