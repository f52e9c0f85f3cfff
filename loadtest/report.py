"""What a load test ends with: figures, and goals that they reach or miss.

In: figures as plain values. Out: one JSON object, and tables for people; `Report.ok` decides the exit status.
"""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

PACKAGES = (
    "tillstream", "faust-streaming", "quixstreams", "aiokafka", "confluent-kafka", "redis", "aiohttp", "uvloop", "orjson", "msgspec",
    "numpy", "river", "scikit-learn",
)  # fmt: skip


class Goal(Struct, frozen=True):
    """A figure that a release must reach, or, of latencies, must not exceed (`at_most`)."""

    name: str
    wanted: float
    measured: float
    at_most: bool = False

    @property
    def ok(self) -> bool:
        """Whether the measured figure is as wanted, or better."""
        return self.measured <= self.wanted if self.at_most else self.measured >= self.wanted


class TableOf(Struct, frozen=True):
    """One table: a title, its columns, its rows as text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


class Report(Struct, frozen=True):
    """One load test: what was asked, what came out."""

    test: str
    asked: dict[str, Any]
    figures: dict[str, Any]
    goals: list[Goal]
    tables: list[TableOf]
    notes: list[str]

    @property
    def ok(self) -> bool:
        """Whether every goal is reached."""
        return all(goal.ok for goal in self.goals)

    def as_json(self) -> bytes:
        """The object that `--json` and `--out` write."""
        goals = [{"goal": g.name, "wanted": g.wanted, "measured": g.measured, "at_most": g.at_most, "ok": g.ok} for g in self.goals]
        whole = {
            "test": self.test,
            "machine": machine(),
            "asked": self.asked,
            "figures": self.figures,
            "goals": goals,
            "ok": self.ok,
            "notes": self.notes,
        }
        return msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n"

    def show(self, console: Console) -> None:
        """Tables, goals and notes."""
        for table in self.tables:
            shown = Table(title=table.title, title_justify="left")
            for index, column in enumerate(table.columns):
                shown.add_column(column, justify="left" if index == 0 else "right")
            for row in table.rows:
                shown.add_row(*row)
            console.print(shown)
        for goal in self.goals:
            measured = f"{goal.measured:,.2f}" if goal.measured < 1_000 else f"{goal.measured:,.0f}"
            wanted = f"at {'most' if goal.at_most else 'least'} {goal.wanted:,g}"
            console.print(f"{'ok' if goal.ok else 'missed':>6}  {goal.name}: {measured}, wanted {wanted}")
        for note in self.notes:
            console.print(f"note: {note}")


def machine() -> dict[str, Any]:
    """What the figures depend on; nothing that names the machine."""
    return {
        "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "architecture": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }
