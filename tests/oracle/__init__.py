"""The oracle of the whole vocabulary: DESIGN.md §5 with member state, slow and obvious, on Python integers and Fractions.

In: programs (parsed TOML, dictionaries) and a history (CloudEvents, dictionaries). Out: an `Outcome`. It goes through the local days one by
one: at midnight what falls due, then the day's events in the order of (instant, natural key). It never looks at how the kernels do it.

Reading order: calendar, lots, facts, history, timetable, terms, judging, earning, tiers, spending, returning, duties, world.
"""

from tests.oracle.world import Outcome, outcome

__all__ = ["Outcome", "outcome"]
