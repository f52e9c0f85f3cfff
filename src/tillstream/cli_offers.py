"""The command `offers`: what was decided, and why not."""

import asyncio
from typing import Any

import click

from tillstream.commands import JSON, print_json
from tillstream.config import load_config


@click.group()
def offers() -> None:
    """Offers put to members."""


@offers.command(epilog="Example: tillstream offers status")
@JSON
def status(as_json: bool) -> None:
    """Counts, by offer, decisions of live workers and the reasons against, since they started; and what budgets have taken, in all."""
    found = asyncio.run(read_status())
    if as_json:
        print_json(found)
        return
    for name, counts in found["offers"].items():
        spent = found["budgets"].get(name)
        click.echo(name + ("" if spent is None else f": {spent} of its budget taken"))
        for what, count in counts.items():
            click.echo(f"  {what:<24} {count:>10,}")
    if found["clicks"]:
        click.echo("page views: " + ", ".join(f"{count:,} {what}" for what, count in found["clicks"].items()))
    if not found["offers"]:
        click.echo("no worker of the role offers has decided anything in the last minute")


async def read_status() -> dict[str, Any]:
    """`offers`: by offer id the counts by what became of it; `budgets`: triggers so far of offers that have one; `clicks`: page views."""
    from tillstream.servers import redis_of
    from tillstream.sinks.offer_view import OfferView
    from tillstream.streams.stats import read_stats

    async with redis_of(load_config()) as client:
        stats = await read_stats(client)
        counts = {name: dict(sorted(stats.offers[name].items())) for name in sorted(stats.offers)}
        clicks = {what: stats.clicks[what] for what in sorted(stats.clicks)}
        return {"offers": counts, "budgets": await OfferView(client).spent(), "clicks": clicks}
