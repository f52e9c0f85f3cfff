"""The command `tillstream replay`: a history into Kafka, or through a gateway."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from tillstream.commands import JSON, fail, print_json
from tillstream.config import load_config

if TYPE_CHECKING:
    from tillstream.histories import Faults
    from tillstream.replaying import Progress


@click.command(epilog="Example: tillstream replay complete-journey --receipts 5000 --rate 500 --returns 0.03 --seed 7")
@click.argument("history", metavar="DATASET|FILE")
@click.option("--receipts", type=click.IntRange(1), help="Stop after so many receipts; default: all.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Events a second; default: as fast as they are taken.")
@click.option("--duplicates", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="Share delivered twice.")
@click.option("--returns", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="Share returned.")
@click.option("--late", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="Share delivered late.")
@click.option("--seed", type=int, default=1, show_default=True, help="Chooses the faults.")
@click.option("--gateway", metavar="URL", help="Send through this gateway, as tills do; default: into Kafka.")
@click.option("--key", metavar="KEY", default="", help="For the gateway, of scope admin; left out where it wants none.")
@click.option("--signed", is_flag=True, help="The key signs: it was made with --signed.")
@click.option("--queue", type=click.Path(file_okay=False, path_type=Path), help="Folder for what waits; default: a temporary one.")
@JSON
def replay(
    history: str, receipts: int | None, rate: float | None, duplicates: float, returns: float, late: float, seed: int,
    gateway: str | None, key: str, signed: bool, queue: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """History into Kafka or through a gateway, at a rate, with seeded faults. Data sets: complete-journey, generated.

    A gateway tells what became of each event; while it is away, receipts wait in the queue.
    """
    from tillstream.histories import Faults

    faults = Faults(duplicates, returns, late, seed)
    if gateway is None:
        if key or signed or queue is not None:
            fail("--key, --signed and --queue go with --gateway", 2)
        sent = into_kafka(history, receipts, rate, faults, quiet=as_json)
    else:
        sent = through_gateway(history, receipts, rate, faults, gateway, key, signed=signed, queue=queue, quiet=as_json)
    if as_json:
        print_json(sent)
    elif gateway is not None:
        outcomes = ", ".join(f"{count:,} {name}" for name, count in sent["outcomes"].items())
        click.echo(f"{sent['enrolments'] + sent['events']:,} events: {outcomes}; {sent['queued']:,} of them had to wait")
        if sent["first_refusal"]:
            click.echo(f"the first refusal: {sent['first_refusal']}")


def into_kafka(history: str, receipts: int | None, rate: float | None, faults: "Faults", *, quiet: bool) -> dict[str, Any]:
    """Sends a history to Kafka with a progress bar."""
    from tillstream.histories import named
    from tillstream.sending import Sender
    from tillstream.servers import check_kafka

    config = load_config()
    source = named(history, receipts, faults)
    check_kafka(config)
    sender = Sender(config)
    enrolled = sender.send(source.enrolments)
    with bar(receipts, quiet=quiet) as progress:
        sent = sender.send(source.receipts, rate, progress)
    return {"enrolments": enrolled, "events": sent, "acknowledged": sender.acknowledged}


def through_gateway(
    history: str, receipts: int | None, rate: float | None, faults: "Faults", gateway: str, key: str, *, signed: bool, queue: Path | None,
    quiet: bool,
) -> dict[str, Any]:  # fmt: skip
    """Sends a history through a gateway with a progress bar."""
    from tillstream.histories import named
    from tillstream.replaying import replay_through

    source = named(history, receipts, faults)
    with TemporaryDirectory(prefix="tillstream-queue-") as folder, bar(None, quiet=quiet) as progress:
        return asyncio.run(replay_through(gateway, key, source, rate, queue or Path(folder), progress, signed=signed))


@contextmanager
def bar(total: int | None, *, quiet: bool) -> Iterator["Progress"]:
    """A progress bar on standard error; gives what moves it."""
    from rich.console import Console
    from rich.progress import Progress

    from tillstream.console import columns

    with Progress(*columns(), console=Console(stderr=True), disable=quiet) as shown:
        task = shown.add_task("sending", total=total)
        yield lambda count: shown.update(task, completed=count)
