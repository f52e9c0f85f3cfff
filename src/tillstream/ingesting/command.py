"""What `tillstream ingest` does and says: events printed or sent, a line for each file, the exit status."""

import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click
import orjson
from rich.console import Console

from tillstream.config import Config
from tillstream.ingesting.checkpoints import Checkpoints, Progress
from tillstream.ingesting.files import candidates, opened
from tillstream.ingesting.mappings import load_mapping
from tillstream.ingesting.run import Result, Round, file_outcomes
from tillstream.ingesting.watch import ingest_once, stopped_by_signals, watch
from tillstream.sources.ingest.mapping import Mapping

INCOMPLETE = {"changed", "failed"}
"""States in which something is left to do, though no row was rejected."""

COUNTS = ("rows", "events", "rejected", "passed")


def dry(mapping: Mapping, target: Path) -> int:
    """Prints the events of all files; the exit status."""
    counts: Counter[str] = Counter()
    for path in candidates(target, mapping.files):
        with opened(path) as there:
            for name, outcome in file_outcomes(there.file, path.name, mapping):
                for event in outcome.events:
                    click.echo(orjson.dumps(event))
                for reject in outcome.rejects:
                    at = f" {reject.field}" + (f" ({reject.origin})" if reject.origin else "")
                    fix = f"; {reject.fix}" if reject.fix else ""
                    click.echo(f"{name}, row {reject.row}:{at}: {reject.message}{fix}", err=True)
                counts["rows"] += outcome.rows
                counts["events"] += len(outcome.events)
                counts["rejected"] += len(outcome.rejects)
                counts["passed"] += outcome.rows if outcome.passed else 0
    click.echo(counted(counts), err=True)
    return 1 if counts["rejected"] else 0


def counted(counts: "Counter[str] | dict[str, int]") -> str:
    """Counts in words."""
    return f"{counts['rows']:,} rows: {counts['events']:,} events, {counts['rejected']:,} rows rejected, {counts['passed']:,} passed over"


def live(config: Config, mapping: Path, target: Path, *, watching: bool, as_json: bool) -> int:
    """Sends, once or again and again; the exit status."""
    versioned = load_mapping(mapping)
    results: list[Result] = []
    console = Console(stderr=True, quiet=as_json or not sys.stderr.isatty())
    with Checkpoints(Path(config.ingest_state), mapping.stem) as checkpoints, console.status("reading") as status:

        def progressed(name: str, progress: Progress) -> None:
            status.update(f"{name}: {progress.rows:,} rows")

        if watching:
            with stopped_by_signals() as stop:
                work = Round(versioned, checkpoints, progressed, stop.is_set)
                watch(config, target, work, teller(results, as_json=as_json, changes_only=True), say, stop)
        else:
            told = results.append if as_json else teller(results, as_json=False, changes_only=False)
            ingest_once(config, target, Round(versioned, checkpoints, progressed), told, time.sleep)
    totals = {name: sum(getattr(result, name) for result in results) for name in COUNTS}
    if as_json and not watching:
        whole = {"files": [result._asdict() for result in results], **totals}
        click.echo(orjson.dumps(whole, option=orjson.OPT_INDENT_2).decode())
    elif not as_json and len(results) != 1:
        click.echo(f"{len(results)} files, {counted(totals)}")
    return 1 if totals["rejected"] or any(result.state in INCOMPLETE for result in results) else 0


def teller(results: list[Result], *, as_json: bool, changes_only: bool) -> Callable[[Result], None]:
    """Prints a line for each file; of a folder that is watched, only for those of which something came."""

    before: dict[str, Result] = {}

    def told(result: Result) -> None:
        if changes_only and (result.state in {"unchanged", "left"} or before.get(result.file) == result):
            return
        before[result.file] = result
        results.append(result)
        if as_json:
            click.echo(orjson.dumps(result._asdict()))
            return
        click.echo(f"{result.file}: {in_words(result)}")

    return told


def in_words(result: Result) -> str:
    """What came of a file."""
    if result.state == "left":
        return "left alone, it is still being written; files.stable_s and files.marker say when a file is complete"
    if result.state == "failed":
        return f"failed: {result.reason}"
    states = {
        "unchanged": "done before, nothing sent; ",
        "resumed": "resumed; ",
        "unreadable": "not readable to its end; ",
        "changed": "changed while it was read, run again; ",
        "stopped": "stopped in its middle, the next run goes on there; ",
    }
    where = f"; see {result.rejects}" if result.rejects else ""
    return f"{states.get(result.state, '')}{counted(result._asdict())}{where}"


def say(message: str) -> None:
    click.echo(message, err=True)
