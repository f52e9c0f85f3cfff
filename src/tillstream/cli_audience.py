"""The commands `audience` and `segments`: members that are like a seed group, and groups by what members do (docs/audience.md)."""

import asyncio
from datetime import date, datetime
from pathlib import Path
from typing import Any

import click

from tillstream.cli_ingest import RunByDefault
from tillstream.commands import JSON, print_json
from tillstream.config import load_config

DAYS = click.IntRange(1, 365)
AS_OF = click.option(
    "--as-of", type=click.DateTime(["%Y-%m-%d"]), metavar="DATE", help="Look at nothing after this day; default: the latest with a receipt."
)
EXAMPLE = "Example: tillstream audience find --bought 'dairy/cheese/**' --within-days 56 --share 0.1 --report cheese.html"


class FindByDefault(RunByDefault):
    """A group whose command `find` needs no name."""

    default = "find"


@click.group(cls=FindByDefault, epilog=EXAMPLE)
def audience() -> None:
    """Members that are most like a seed group, scored by a model that is proved on what came after it (docs/audience.md).

    `audience --bought GLOB ...` is `audience find`, whose options `audience find --help` tells.
    """


@audience.command(epilog=EXAMPLE)
@click.option("--name", default="audience", show_default=True, help="Of the audience; its file is called so without --output.")
@click.option("--bought", metavar="GLOB", help="Seed: who bought of these categories; of articles or brands with sku:GLOB, brand:GLOB.")
@click.option("--redeemed", metavar="RULE", help="Seed: to whom this rule gave points.")
@click.option("--seed", metavar="FILE.csv", help="Seed: a list with a column member_id or account_id.")
@click.option("--within-days", type=DAYS, metavar="N", help="In the seed is who did so within N days; default: ever.")
@click.option("--horizon-days", type=DAYS, metavar="N", default=28, show_default=True, help="Score who joins the seed within N days.")
@click.option("--top", type=click.IntRange(1), metavar="N", help="Take the N best members.")
@click.option("--share", type=click.FloatRange(0, 1, min_open=True), metavar="S", help="Take this share of them; 0.1 is the best tenth.")
@click.option("--purpose", "purposes", multiple=True, default=["marketing"], show_default=True, help="Consent that members must give.")
@click.option("--output", metavar="OUT.csv", help="Where the audience goes; default: NAME.csv.")
@click.option("--report", metavar="R.html|R.json", help="Write lift, calibration and figures there.")
@click.option("--contacts", metavar="CRM.csv", help="The CRM's contacts: member_id, email, phone; read once, never stored.")
@click.option("--hashed-contacts", metavar="OUT.csv", help="Write the audience's contacts there, hashed as ad platforms match them.")
@AS_OF
@JSON
def find(as_of: datetime | None, as_json: bool, purposes: tuple[str, ...], **options: Any) -> None:
    """Finds an audience by options. Who did not consent to profiling and to every --purpose is left out, and counted."""
    import msgspec

    from tillstream.audience.definition import Definition, checked
    from tillstream.errors import UsageError

    try:
        definition = msgspec.convert({**options, "purposes": list(purposes)}, Definition)
    except msgspec.ValidationError as error:
        raise UsageError(str(error)) from None
    search(checked(definition), as_of, as_json=as_json)


@audience.command(epilog="Example: tillstream audience run audiences/cheese.toml")
@AS_OF
@JSON
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
def run(as_of: datetime | None, as_json: bool, path: Path) -> None:
    """Finds an audience by a file: the same every night, from cron or a systemd timer."""
    from tillstream.audience.definition import read_definition

    search(read_definition(path), as_of, as_json=as_json)


def search(definition: Any, as_of: datetime | None, *, as_json: bool) -> None:
    """Finds it, and shows what was found; progress goes to standard error."""
    from rich.console import Console

    from tillstream.audience.finding import find_audience

    with Console(stderr=True).status("") as status:
        day: date | None = None if as_of is None else as_of.date()
        summary = asyncio.run(find_audience(load_config(), definition, day, status.update))
    if as_json:
        print_json(summary)
    else:
        show(summary)


def show(summary: dict[str, Any]) -> None:
    """The summary in words."""
    proof, seed = summary["proof"], summary["seed"]
    like = f"like {seed['accounts']} accounts ({seed['kind']} {seed['what']})"
    click.echo(f"{summary['output']}: {summary['audience']} members as of {summary['as_of']}, {like}")
    click.echo(f"scored {summary['scored']} accounts; {summary['addressable']} members may be addressed")
    for reason, count in summary["left_out"].items():
        click.echo(f"left out, {reason.replace('_', ' ')}: {count}")
    click.echo(
        f"proved by {summary['method']} on {proof['candidates']} candidates, {proof['joined']} joined: AUC {proof['auc']:g} "
        f"({proof['low']:g} to {proof['high']:g}), the first tenth {proof['tenths'][0]['lift']:g} times chance"
    )
    if seed["unknown"]:
        click.echo(f"{seed['unknown']} of the list are not known")
    if summary["contacts"] is not None:
        click.echo("hashed contacts: " + ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in summary["contacts"].items()))


@click.command(epilog="Example: tillstream segments segments.toml --publish")
@click.option("--publish", "publishing", is_flag=True, help="Tell the rules: of each member whose segments have changed.")
@click.option("--all", "everybody", is_flag=True, help="With --publish: of unchanged members too, for rules that ask for segments since.")
@AS_OF
@JSON
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
def segments(publishing: bool, everybody: bool, as_of: datetime | None, as_json: bool, path: Path) -> None:
    """Counts members by segments: new, active, lost, regular, by goods, by attributes; --publish lets `member.segment` see them."""
    from tillstream.errors import UsageError
    from tillstream.segmenting.command import segment_members

    if everybody and not publishing:
        raise UsageError("--all goes with --publish; without it nothing is told to anybody")
    day = None if as_of is None else as_of.date()
    summary = asyncio.run(segment_members(load_config(), path, day, publishing=publishing, everybody=everybody))
    if as_json:
        print_json(summary)
        return
    for each in summary["segmentations"]:
        click.echo(f"{each['name']}, version {each['version']}, as of {summary['as_of']}")
        for name, count in each["segments"].items():
            click.echo(f"  {name}: {count}")
        click.echo(f"  in none: {each['in_none']}, not profiled for want of consent: {each['no_consent']}, changed: {each['changed']}")
    click.echo(f"published: {summary['published']}" if publishing else "nothing published; --publish does")
