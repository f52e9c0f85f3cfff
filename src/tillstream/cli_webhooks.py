"""The command `webhooks`: what became of deliveries, and delivering again."""

import sys
from datetime import UTC, datetime

import click

from tillstream.commands import JSON, fail, print_json
from tillstream.config import load_config


@click.group()
def webhooks() -> None:
    """Where triggers are delivered to (setting endpoints)."""


@webhooks.command(epilog="Example: tillstream webhooks status --json")
@JSON
def status(as_json: bool) -> None:
    """Counts the deliveries of the last seven days by endpoint and state."""
    from tillstream.delivering import show_status, status_of

    rows = status_of(load_config())
    if as_json:
        print_json({"endpoints": rows})
    else:
        show_status(rows)


@webhooks.command(epilog="Example: tillstream webhooks replay --since 2026-03-07T12:00:00 --endpoint crm")
@click.option("--since", type=click.DateTime(), metavar="INSTANT", help="Triggers from this instant on (UTC), at most thirty days back.")
@click.option("--id", "ids", metavar="ID", multiple=True, help="The trigger of this decision; several.")
@click.option("--endpoint", metavar="ID", help="To this endpoint only; default: to all that want it.")
@JSON
def replay(since: datetime | None, ids: tuple[str, ...], endpoint: str | None, as_json: bool) -> None:
    """Delivers triggers again, now, under the same ids, none that expired or was withdrawn; exit status 1 where one was not taken."""
    from tillstream.delivering import replay as deliver_again

    if (since is None) == (not ids):
        fail("say --since INSTANT, or --id ID", 2)
    sent = deliver_again(load_config(), None if since is None else since.replace(tzinfo=UTC), frozenset(ids), endpoint)
    if as_json:
        print_json({"deliveries": [each._asdict() for each in sent]})
    else:
        for each in sent:
            click.echo(f"{each.decision_id} {each.endpoint}: {each.result} {each.reason}".rstrip())
        click.echo(f"{len(sent)} deliveries")
    if any(each.result not in {"delivered", "expired", "withdrawn"} for each in sent):
        sys.exit(1)
