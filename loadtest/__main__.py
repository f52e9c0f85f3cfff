"""The command line: `python -m loadtest pipeline|kernel|transport|lane|clicks|replies|propensity`, from a checkout with it installed.

Exit status 0 where every goal is reached, 1 where one is missed or a run is void, 2 for bad usage.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from loadtest import clicks, kernel, lane, pipeline, propensity, replies, transport
from loadtest.contender import VoidRunError
from loadtest.lane_picture import picture
from loadtest.report import Report
from tillstream.sources.complete_journey import DatasetMissing

RECEIPTS_MAX = 1_000_000
"""The load is kept in this process's memory, 1.5 kB each, and the embedded broker keeps it and the ledger in its own."""

EPILOG = "Example: python -m loadtest pipeline --receipts 20000 --out pipeline.json"


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

OUT = click.option("--out", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Write the JSON here as well.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
RUNS = click.option("--runs", type=click.IntRange(1, 99), default=3, show_default=True, help="Runs, of which the median counts.")


def together(*options: Decorator) -> Decorator:
    """Several options as one."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def loaded(receipts: int) -> Decorator:
    """What tests of a load take; `receipts` is the default one."""
    size = click.option("--receipts", type=click.IntRange(1, RECEIPTS_MAX), default=receipts, show_default=True, help="Size of the load.")
    return together(OUT, AS_JSON, RUNS, size)


def timed(seconds: float) -> Decorator:
    """What tests at a rate take; `seconds` is the default length of a run."""
    length = click.option("--seconds", type=click.FloatRange(1, 600), default=seconds, show_default=True, help="Length of each run.")
    return together(OUT, AS_JSON, RUNS, length)


@click.group(epilog=EPILOG)
def main() -> None:
    """How fast tillstream is, on this machine, and against its peers. Progress goes to standard error."""


def finish(report: Report, as_json: bool, out: Path | None) -> None:
    """Shows or prints the report, and exits by its goals."""
    if out is not None:
        out.write_bytes(report.as_json())
    if as_json:
        click.echo(report.as_json().decode(), nl=False)
    else:
        report.show(Console())
    sys.exit(0 if report.ok else 1)


def progress(line: str) -> None:
    click.echo(line, err=True)


@main.command("pipeline", epilog=EPILOG)
@loaded(100_000)
@click.option(
    "--program", type=click.Choice(["ten", "fifty", "both"]), default="both", show_default=True,
    help="Ten rules, against peers; fifty rules that look at members; or both.",
)  # fmt: skip
def run_pipeline(receipts: int, runs: int, as_json: bool, out: Path | None, program: str) -> None:
    """`accrue` from Kafka to Redis and ledger, against Faust, Quix Streams and a bare loop."""
    try:
        report = pipeline.run(receipts, runs, progress, program)
    except VoidRunError as void:
        raise click.ClickException(str(void)) from None
    finish(report, as_json, out)


@main.command("kernel", epilog="Example: python -m loadtest kernel --json")
@loaded(20_000)
def run_kernel(receipts: int, runs: int, as_json: bool, out: Path | None) -> None:
    """Lines per second of the award kernel on one core, against NumPy and the oracle."""
    try:
        report = kernel.run(receipts, runs, progress)
    except VoidRunError as void:
        raise click.ClickException(str(void)) from None
    finish(report, as_json, out)


@main.command("transport", epilog="Example: python -m loadtest transport --receipts 50000")
@loaded(100_000)
def run_transport(receipts: int, runs: int, as_json: bool, out: Path | None) -> None:
    """Records per second through an agent that does nothing: our transport, whole fetches of aiokafka, stock Faust."""
    try:
        report = transport.run(receipts, runs, progress)
    except VoidRunError as void:
        raise click.ClickException(str(void)) from None
    finish(report, as_json, out)


@main.command("lane", epilog="Example: python -m loadtest lane --out lane.json --picture lane.svg")
@timed(20.0)
@click.option("--picture", "svg", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Draw the curve here (SVG).")
@click.option("--receipts", type=click.FloatRange(1, 10_000), default=300.0, show_default=True, help="Receipts a second.")
@click.option("--identify", type=click.FloatRange(1, 10_000), default=300.0, show_default=True, help="Members identified a second.")
@click.option("--quote", type=click.FloatRange(1, 10_000), default=300.0, show_default=True, help="Baskets quoted a second.")
@click.option("--partitions", type=click.IntRange(1, 64), default=1, show_default=True, help="Partitions; one worker works on all of them.")
@click.option("--gateways", type=click.IntRange(1, 2), default=1, show_default=True, help="Gateways, side by side.")
@click.option("--curve/--no-curve", default=True, show_default=True, help="Whether to raise the rates until it only queues.")
def run_lane(
    out: Path | None, svg: Path | None, as_json: bool, runs: int, seconds: float, receipts: float, identify: float, quote: float,
    partitions: int, gateways: int, curve: bool,
) -> None:  # fmt: skip
    """What a till waits for: identify, quote, and a receipt until its points, through a gateway, with all servers on this machine."""
    if svg is not None and not curve:
        raise click.UsageError("--picture draws the curve; leave out --no-curve")
    rates = {"identify": identify, "quote": quote, "receipt": receipts}
    try:
        report, steps = lane.run(rates, seconds, runs, lane.Size(partitions, gateways), progress, curve=curve)
    except VoidRunError as void:
        raise click.ClickException(str(void)) from None
    if svg is not None:
        svg.write_text(picture(steps), encoding="utf-8")
    finish(report, as_json, out)


@main.command("replies", epilog="Example: python -m loadtest replies --seconds 5")
@timed(10.0)
@click.option("--rate", type=click.IntRange(1, 10_000), default=300, show_default=True, help="Replies a second.")
@click.option("--kafka", default="", help="Measure by this broker, in place of an embedded one.")
def run_replies(out: Path | None, as_json: bool, runs: int, seconds: float, rate: int, kafka: str) -> None:
    """From the worker to the gateway: by a channel of Redis, as it is, or by a topic of Kafka."""
    try:
        report = replies.run(rate, seconds, runs, kafka, progress)
    except VoidRunError as void:
        raise click.ClickException(str(void)) from None
    finish(report, as_json, out)


@main.command("clicks", epilog="Example: python -m loadtest clicks --out clicks.json")
@timed(20.0)
@click.option("--rate", "per_s", type=click.FloatRange(1, 100_000), default=2_000.0, show_default=True, help="Page views a second.")
@click.option("--pages", type=click.IntRange(1, 1_000_000), default=40_000, show_default=True, help="Page views of the comparison.")
@click.option("--partitions", type=click.IntRange(1, 64), default=1, show_default=True, help="Partitions; one worker works on all of them.")
def run_clicks(out: Path | None, as_json: bool, runs: int, seconds: float, per_s: float, pages: int, partitions: int) -> None:
    """What a page waits for: from the page view to the trigger, with twenty offers; and how many a worker takes, against stock Faust."""
    try:
        report = clicks.run(per_s, seconds, runs, pages, partitions, progress)
    except VoidRunError as void:
        raise click.ClickException(str(void)) from None
    finish(report, as_json, out)


@main.command("propensity", epilog="Example: python -m loadtest propensity --out propensity.json")
@OUT
@AS_JSON
@click.option("--seed", type=click.IntRange(0, 2**31), default=propensity.SEED, show_default=True, help="Of the order of lessons.")
def run_propensity(out: Path | None, as_json: bool, seed: int) -> None:
    """How well models foresee who redeems: The Complete Journey's campaigns, replayed in the order of time; takes minutes."""
    try:
        report = propensity.run(seed, progress)
    except (DatasetMissing, VoidRunError) as problem:
        raise click.ClickException(str(problem)) from None
    finish(report, as_json, out)


if __name__ == "__main__":
    main(prog_name="python -m loadtest")
