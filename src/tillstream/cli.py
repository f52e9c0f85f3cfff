"""The command line (DESIGN.md §7). Every command: `--help` with an example, `--json` where a machine may read it, exit status 0, 1 or 2."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from msgspec import to_builtins

from tillstream import __version__
from tillstream.cli_audience import audience, segments
from tillstream.cli_ingest import ingest
from tillstream.cli_keys import audit, keys
from tillstream.cli_models import models
from tillstream.cli_offers import offers
from tillstream.cli_replay import replay
from tillstream.cli_vouchers import vouchers
from tillstream.cli_webhooks import webhooks
from tillstream.commands import JSON, Commands, fail, print_json
from tillstream.config import load_config, load_program, load_timetable

LINE = click.option("--line", type=click.IntRange(0), metavar="N", help="Of the receipt, this line only: its share to the last point.")
PROGRAMS = click.option(
    "--program", "programs", metavar="P.toml", required=True, multiple=True,
    help="The program file to judge by; several: versions of a program by their effective_from, programs side by side.",
)  # fmt: skip

ROLE = click.option(
    "--role", type=click.Choice(["points", "history", "offers", "models", "deliver"]), default="points", show_default=True,
    help="Give points, write history, keep the features that offers are decided by, learn from outcomes, or deliver triggers.",
)  # fmt: skip


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tillstream")
def main() -> None:
    """tillstream: receipts become points before they are printed."""


main.add_command(keys)
main.add_command(audit)
main.add_command(vouchers)
main.add_command(offers)
main.add_command(models)
main.add_command(webhooks)
main.add_command(audience)
main.add_command(segments)


@main.command(epilog="Example: tillstream simulate --program club.toml --ledger out.jsonl --json events.jsonl")
@PROGRAMS
@click.option("--ledger", "ledger_path", type=click.Path(dir_okay=False), metavar="OUT.jsonl", help="Write every ledger entry, one a line.")
@click.option("--explain", is_flag=True, help="Say why each rule gave each event what it did, or nothing.")
@click.option("--receipt", metavar="R", help="Explain this receipt only.")
@LINE
@JSON
@click.argument("events", type=click.Path(dir_okay=False), metavar="EVENTS.jsonl")
def simulate(
    programs: tuple[str, ...], ledger_path: str | None, explain: bool, receipt: str | None, line: int | None, as_json: bool, events: str
) -> None:
    """What would these events give? The same kernels and ledger, in process, no server."""
    from tillstream.simulate import Deliveries, Simulation, entry_line

    if (receipt is not None and not explain) or (line is not None and receipt is None):
        fail("--receipt goes with --explain, --line with --receipt", 2)
    timetable = load_timetable(programs)
    with reading(events) as lines, writing(ledger_path) as ledger:
        on_entry = None if ledger is None else lambda entry: ledger.write(entry_line(entry))
        simulation = Simulation(timetable, on_entry, load_config().phone_region, Deliveries() if explain else None)
        simulation.run(lines)
    result = simulation.result()
    if explain:
        from tillstream.simulated_explanations import explanations_of

        explanations = explanations_of(simulation, receipt, line)
    if as_json:
        print_json(result | ({"explanations": to_builtins(explanations)} if explain else {}))
        return
    from tillstream.console import show_explanations, show_simulation

    show_simulation(result)
    if explain:
        show_explanations(explanations, line)


@main.command(epilog="Example: tillstream explain --receipt PL-0001/3/2026-03-07/000123 --line 1")
@click.option("--receipt", metavar="R", required=True, help="The receipt: a sale, a return, or the sale of a void.")
@click.option("--source", metavar="S", help="Who issued it; needed where several sources have a receipt of this name.")
@LINE
@JSON
def explain(receipt: str, source: str | None, line: int | None, as_json: bool) -> None:
    """Why a receipt's lines earned what they did, and why each other rule did not apply; on the live system."""
    from tillstream.explain import explain_receipt

    explanations = asyncio.run(explain_receipt(load_config(), receipt, source, line))
    if as_json:
        print_json({"explanations": to_builtins(explanations)})
        return
    from tillstream.console import show_explanations

    show_explanations(explanations, line)


@main.group()
def program() -> None:
    """Program files."""


@program.command(epilog="Example: tillstream program check club.toml")
@JSON
@click.argument("path", metavar="FILE")
def check(path: str, as_json: bool) -> None:
    """Lists every mistake of a program file with its path and a hint; exit status 2 where there are any. Warnings are no mistakes."""
    from tillstream.errors import ProgramError
    from tillstream.schemas.program_advice import advice

    try:
        parsed = load_program(path)
    except ProgramError as error:
        if as_json:
            mistakes = [{"path": m.path, "message": m.message, "hint": m.hint} for m in error.mistakes]
            print_json({"ok": False, "version": None, "mistakes": mistakes, "warnings": []})
            sys.exit(error.exit_status)
        raise
    warnings = advice(parsed.program)
    if as_json:
        print_json({"ok": True, "version": parsed.version, "mistakes": [], "warnings": [item._asdict() for item in warnings]})
    else:
        rules = len(parsed.program.rules)
        click.echo(f"{path}: no mistakes; {rules} rules, version {parsed.version}")
        for item in warnings:
            click.echo(f"warning: {item}")


@program.command(epilog="Example: tillstream program diff club.toml club-april.toml")
@JSON
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
def diff(old: str, new: str, as_json: bool) -> None:
    """Tells in words what NEW has otherwise than OLD; exit status 1 where they differ."""
    from tillstream.schemas.program_diff import differences

    before, after = load_program(old), load_program(new)
    found = differences(before.program, after.program)
    if as_json:
        print_json(
            {"equal": not found, "old": before.version, "new": after.version, "differences": [item._asdict() for item in found]}
        )
    else:
        for item in found:
            click.echo(item.text)
        click.echo(f"{len(found)} difference{'s' if len(found) > 1 else ''}" if found else "no difference")
    if found:
        sys.exit(1)


@program.command(epilog="Example: tillstream program publish club.toml")
@click.option("--backdate", is_flag=True, help="Let it begin in the past: late receipts of those days are judged by it.")
@JSON
@click.argument("paths", metavar="FILE...", nargs=-1, required=True)
def publish(paths: tuple[str, ...], backdate: bool, as_json: bool) -> None:
    """Publishes a program, or several that change together, to all workers; it holds from its effective_from on."""
    from tillstream.publishing import publish_programs

    results = publish_programs(load_config(), paths, backdate=backdate)
    if as_json:
        print_json({"programs": results})
        return
    for path, result in zip(paths, results, strict=True):
        done = "published" if result["published"] else "is published already:"
        click.echo(f"{path}: {done} {result['program']}, version {result['version']}, from {result['effective_from'] or 'always'}")
        for note in result["notes"]:
            click.echo(f"  {note}")


@program.command("list", epilog="Example: tillstream program list")
@JSON
def list_published(as_json: bool) -> None:
    """Lists what is published, and what of it holds today."""
    from tillstream.console import show_programs
    from tillstream.publishing import list_programs

    rows = list_programs(load_config())
    if as_json:
        print_json({"programs": rows})
    else:
        show_programs(rows)


@main.command(epilog="Example: tillstream worker --role points")
@ROLE
def worker(role: str) -> None:
    """One Faust worker against the configured servers, until Ctrl-C or SIGTERM."""
    from tillstream.worker import run_worker

    run_worker(load_config(), role)  # type: ignore[arg-type]


@main.command(epilog="Example: tillstream gateway")
def gateway() -> None:
    """One gateway against the configured servers, until Ctrl-C or SIGTERM: HTTP for tills, shops and apps."""
    from tillstream.serving import run_gateway

    run_gateway(load_config(), click.echo)


@main.command(epilog="Example: tillstream demo --receipts 20000")
@click.option("--receipts", type=click.IntRange(1), default=20_000, show_default=True, help="Receipts of The Complete Journey to replay.")
@click.option("--keep", is_flag=True, help="Leave the system serving until Ctrl-C.")
@JSON
def demo(receipts: int, keep: bool, as_json: bool) -> None:
    """The whole system on this machine: embedded servers, real receipts, figures, a verify. Leaves nothing behind."""
    from tillstream.console import DemoScreen

    with DemoScreen(quiet=as_json) as screen:
        figures = screen.run(receipts, keep)
    if as_json:
        print_json(figures)
    if not figures["verify"]["ok"]:
        sys.exit(1)


@main.command(epilog="Example: tillstream up --program club.toml")
@click.option("--program", "program_path", metavar="P.toml", help="The program file to judge by; default: the demo's.")
def up(program_path: str | None) -> None:
    """The embedded system until Ctrl-C; prints the settings that lead other commands to it."""
    from tillstream.console import serve_installation

    serve_installation(program_path)


@main.command(epilog="Example: tillstream verify --json")
@click.option("--skip-history", is_flag=True, help="Leave ClickHouse out.")
@JSON
def verify(skip_history: bool, as_json: bool) -> None:
    """Proves on the live system that Redis and ClickHouse are what the ledger says; exit status 1 where not."""
    from tillstream.console import show_report
    from tillstream.operating import verify_system

    report = asyncio.run(verify_system(load_config(), history=not skip_history))
    if as_json:
        print_json(report.as_json())
    else:
        show_report(report.as_json())
    if report.findings:
        sys.exit(1)


@main.command(epilog="Example: tillstream rebuild --yes")
@click.option("--yes", is_flag=True, help="Do not ask.")
@JSON
def rebuild(yes: bool, as_json: bool) -> None:
    """Empties our keys in Redis and rebuilds them from Kafka; the workers must be stopped."""
    from tillstream.operating import rebuild_redis

    config = load_config()
    if not yes:
        click.confirm(f"Empty tillstream's keys in Redis at {config.redis} and rebuild them?", abort=True)
    result = asyncio.run(rebuild_redis(config))
    if as_json:
        print_json(result)
    else:
        click.echo(f"rebuilt {result['accounts']} accounts from {result['records']} ledger records in {result['seconds']} s")


main.add_command(ingest)
main.add_command(replay)


@contextmanager
def reading(path: str) -> Iterator[Iterator[bytes]]:
    """The lines of a file; `-` is standard input."""
    if path == "-":
        yield iter(sys.stdin.buffer)
        return
    try:
        with Path(path).open("rb") as file:
            yield iter(file)
    except OSError as error:
        fail(f"{path}: {error.strerror}", 2)


@contextmanager
def writing(path: str | None) -> Iterator[Any]:
    """A file to write, or None."""
    if path is None:
        yield None
        return
    try:
        with Path(path).open("wb") as file:
            yield file
    except OSError as error:
        fail(f"{path}: {error.strerror}", 2)
