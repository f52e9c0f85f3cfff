"""What a person sees in the terminal: progress, figures, findings. Nothing here decides anything."""

import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from tillstream.config import ENVIRONMENT_PREFIX, Config
from tillstream.demo import run_demo
from tillstream.installation import Installation, environment_of, gateway_of
from tillstream.kernels.wording import explanation_words
from tillstream.schemas.explanations import Explanation

DEMO_PROGRAM = Path(__file__).with_name("demo.toml")
SHOWN_ACCOUNTS = 20


def columns() -> tuple[Any, ...]:
    return TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()


class DemoScreen:
    """The demo in the terminal: what it does now, and what came of it. Quiet: only progress and messages, on standard error."""

    def __init__(self, *, quiet: bool) -> None:
        self.out = Console(stderr=quiet, highlight=False)
        self.progress = Progress(*columns(), console=self.out, transient=True)
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "DemoScreen":
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()

    def run(self, receipts: int, keep: bool) -> dict[str, Any]:
        """Runs the demo and shows its figures; `keep`: serves until Ctrl-C after that."""
        figures: dict[str, Any] = {}

        def finish(config: Config, result: dict[str, Any]) -> None:
            figures.update(result)
            self.progress.stop()
            if not self.out.stderr:
                show_figures(self.out, result)
            if keep:
                with gateway_of(config) as address:
                    show_settings(self.out, config, address)
                    wait_for_interrupt()

        run_demo(receipts, self.say, self.advance, finish)
        return figures

    def say(self, message: str) -> None:
        self.out.print(message)

    def advance(self, what: str, done: int, total: int) -> None:
        """Moves a bar; a total of 0 is not known yet."""
        if what not in self.tasks:
            self.tasks[what] = self.progress.add_task(what, total=total or None)
        self.progress.update(self.tasks[what], completed=done, total=total or None)


def show_figures(out: Console, figures: dict[str, Any]) -> None:
    """What the demo did, in one table and a few sentences."""
    table = Table("what", "figure", show_edge=False, box=None)
    history, burst, latency = figures["history"], figures["burst"], figures["latency_ms"]
    visited, sold = figures["on_the_page"], figures["at_a_till"]
    for name, value in (
        ("events sent", figures["events"]),
        ("of these", ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in figures["faults"].items())),
        ("receipts in history", f"{history['sales']:,} sales, {history['returns']:,} returns"),
        ("lines", f"{history['lines']:,}"),
        ("ledger entries", f"{history['entries']:,}"),
        ("points given, net", f"{figures['points']:,}"),
        ("accounts", f"{figures['verify']['accounts']:,}"),
        ("outcomes", ", ".join(f"{count:,} {name}" for name, count in figures["outcomes"].items())),
        ("burst", f"{burst['events']:,} events in {burst['seconds']} s, ClickHouse included: {burst['events_per_second']:,} events/s"),
        ("till to points, at 200 events/s", f"p50 {latency['paced']['p50']} ms, p99 {latency['paced']['p99']} ms"),
        ("till to points, in the burst", f"p50 {latency['burst']['p50']} ms, p99 {latency['burst']['p99']} ms"),
        ("a member on the shop's page", "none" if visited is None else told_on_the_page(visited)),
        ("one sale at a till, over HTTP", "none" if sold is None else told_at_a_till(sold)),
        ("memory of the workers, at most", ", ".join(f"{role} {mib} MiB" for role, mib in figures["workers_peak_mib"].items())),
        ("the whole demo", f"{figures['seconds']} s, starting and verifying included"),
    ):
        table.add_row(name, str(value))
    out.print(table)
    top = figures["top_member"]
    if top:
        out.print(f"\nmost points: {top['account_id']} with {top['balance']:,}; three of the lines that gave them:")
        for line in top["lines"]:
            out.print(f"  +{line['points']}  {line['why']}")
    show_report(figures["verify"], out)
    out.print("\nwhere to look next: tillstream demo --keep, docs/analyst.md for SQL, ARCHITECTURE.md for how it works")


def told_on_the_page(visited: dict[str, Any]) -> str:
    """One visit and the offer that came of it, in a sentence."""
    return f"{visited['why']}: {visited['title']!r} was out after {visited['trigger_ms']} ms"


def told_at_a_till(sold: dict[str, Any]) -> str:
    """One sale through a gateway, in a sentence."""
    waits = f"identified in {sold['identify_ms']} ms, quoted in {sold['quote_ms']} ms, sold in {sold['receipt_ms']} ms"
    offered = "".join(f", offered {title!r}" for title in sold["offers"])
    return f"{sold['who']}: {waits}: {sold['points']} points on {sold['lines']} lines{offered}"


def show_report(report: dict[str, Any], out: Console | None = None) -> None:
    """What verify compared and found."""
    out = out or Console(highlight=False)
    history = "left out" if report["clickhouse_accounts"] is None else f"{report['clickhouse_accounts']:,} accounts"
    out.print(
        f"\nverify: ledger {report['postings']:,} postings, {report['entries']:,} entries, {report['accounts']:,} accounts; "
        f"Redis {report['redis_accounts']:,} accounts; ClickHouse {history}"
    )
    if report["groups"]:
        out.print(f"members with several accounts: {report['groups']:,}, of which {report['groups_awaiting_tick']:,} await the next tick")
    if report["decisions"] or report["vouchers"]:
        out.print(f"decisions on offers: {report['decisions']:,}; voucher codes: {report['vouchers'] or 0:,}")
    for finding in report["findings"]:
        out.print(f"  {finding['check']}: {finding['where']}: expected {finding['expected']}, found {finding['found']}")
    out.print("all balances equal, to the point" if report["ok"] else f"{len(report['findings'])} or more things do not hold")


def show_simulation(result: dict[str, Any]) -> None:
    """A simulation's result for a person."""
    out = Console(highlight=False)
    out.print(
        f"{result['events']} events: {result['accepted']} accepted, {result['duplicates']} duplicates, {result['waiting']} waiting, "
        f"{len(result['rejected'])} rejected"
    )
    for rejected in result["rejected"][:SHOWN_ACCOUNTS]:
        out.print(f"  event {rejected['index']}: {rejected['code']} at {rejected['path']}: {rejected['message']}")
    aside = [name for name in ("pending", "held") if any(there[name] for units in result["accounts"].values() for there in units.values())]
    table = Table("account", "unit", "balance", *aside, "lots")
    for account_id, units in list(result["accounts"].items())[:SHOWN_ACCOUNTS]:
        tier = result.get("tiers", {}).get(account_id)
        for unit, there in units.items():
            lots = ", ".join(f"{lot['points']} until {lot['expires_on'] or 'ever'}" for lot in there["lots"])
            name = f"{account_id} ({tier})" if tier else account_id
            table.add_row(name, unit, str(there["balance"]), *(str(there[column]) for column in aside), lots)
    out.print(table)
    if len(result["accounts"]) > SHOWN_ACCOUNTS:
        out.print(f"and {len(result['accounts']) - SHOWN_ACCOUNTS} accounts more; --json has them all")


def show_explanations(explanations: Sequence[Explanation], line_no: int | None) -> None:
    """Explanations in words; nothing is wrapped, so that they can be searched."""
    for explanation in explanations:
        print()
        for text in explanation_words(explanation, line_no):
            print(text)


def show_programs(rows: list[dict[str, Any]]) -> None:
    """What is published, in the order of publishing."""
    out = Console(highlight=False)
    table = Table("program", "from", "version", "published", "today")
    for row in rows:
        published_at = f"{row['published_at']:%Y-%m-%d %H:%M}" if row["published_at"] else ""
        state = f"{row['state']}: {row['problem']}" if row["problem"] else row["state"]
        table.add_row(row["program"], str(row["effective_from"] or "always"), row["version"], published_at, state)
    out.print(table)


def show_settings(out: Console, config: Config, gateway: str) -> None:
    """The gateway's address, and the variables that lead other commands to this installation."""
    out.print(f"\nserving; the gateway is {gateway}, what it does stands at {gateway}/docs; in another terminal:", soft_wrap=True)
    for name, value in environment_of(config).items():
        out.print(f"  export {name}={value}", soft_wrap=True)
    out.print(f"then for example: tillstream verify, or tillstream replay generated. ({ENVIRONMENT_PREFIX}* are settings.) Ctrl-C ends it.")


def serve_installation(program: str | None) -> None:
    """The embedded system until Ctrl-C."""
    out = Console(highlight=False)
    installation = Installation(Path(program) if program else DEMO_PROGRAM)
    with installation as config, gateway_of(config) as address:
        show_settings(out, config, address)
        wait_for_interrupt(installation)


def wait_for_interrupt(installation: Installation | None = None) -> None:
    """Returns at Ctrl-C or SIGTERM; raises TillstreamError where a worker dies before."""
    told = threading.Event()
    before = {number: signal.signal(number, lambda *_: told.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        while not told.wait(0.5):
            if installation is not None:
                installation.check_workers()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
