"""The commands `vouchers`: single-use codes are made, printed, counted and revoked."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from tillstream.commands import JSON, fail, print_json
from tillstream.config import load_config
from tillstream.schemas.events import YEARS
from tillstream.schemas.offers import Worth
from tillstream.sources.ingest.currencies import minor_digits

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
WORTH = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,4})?)\s*(%|[A-Za-z][A-Za-z0-9._-]{0,63})")
SERIES = click.option("--series", metavar="S", required=True, help="What they are for; letters, digits, dots, hyphens.")
LAST = datetime(YEARS.stop, 1, 1)
DAY = click.DateTime(["%Y-%m-%d"])


@click.group()
def vouchers() -> None:
    """Single-use codes."""


@vouchers.command(
    epilog="Example: tillstream vouchers generate --series spring --count 5000 --worth 20.00PLN --expires 2026-12-31 --out codes.csv"
)
@SERIES
@click.option("--batch", default="1", show_default=True, metavar="B", help="Of the series; generated again under its name, it is the same.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="How many; with --member-file as many as it lists.")
@click.option("--worth", metavar="W", required=True, help='"20.00 PLN" or "15%" off, or "100 points" (a unit of the program).')
@click.option("--expires", type=DAY, metavar="DATE", required=True, help="The last day on which they can be used.")
@click.option("--from", "begins", type=DAY, metavar="DATE", help="The first such day; default: at once.")
@click.option("--time-zone", default="UTC", show_default=True, metavar="ZONE", help="Whose days these are, as Europe/Warsaw.")
@click.option("--member-file", type=click.Path(path_type=Path), metavar="FILE.csv", help="One code for each member_id that it lists.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE.csv", required=True, help="The only place where the codes stand.")
@JSON
def generate(
    series: str, batch: str, count: int | None, worth: str, expires: datetime, begins: datetime | None, time_zone: str,
    member_file: Path | None, out: Path, as_json: bool,
) -> None:  # fmt: skip
    """Makes codes that nobody can guess, and issues them. Run again after a crash, it goes on with the same codes."""
    from tillstream.voucher_file import Order, count_members
    from tillstream.vouchers import generate as generate_batch

    check_names(series, batch)
    config, zone = load_config(), zone_of(time_zone)
    listed = None if member_file is None else count_members(member_file)
    if (count or listed) is None or count not in {None, listed or count}:
        fail("--count: say how many, or give --member-file; with both, as many as it lists", 2)
    ends = (min(expires, LAST) + timedelta(days=1)).replace(tzinfo=zone).astimezone(UTC)
    if ends <= datetime.now(UTC):
        fail(f"--expires {expires:%Y-%m-%d}: is past; give a later day", 2)
    if ends.year not in YEARS:
        fail(f"--expires {expires:%Y-%m-%d}: is too late; give a day before the end of {YEARS.stop - 1}", 2)
    order = Order(
        series, batch, count or listed or 0, parse_worth(worth), worth, expires.date(), ends,
        None if begins is None else begins.replace(tzinfo=zone).astimezone(UTC), member_file,
    )  # fmt: skip
    result = generate_batch(config, order, out, (lambda _, __: None) if as_json else show_progress)
    if as_json:
        print_json(result)
    else:
        click.echo(f"{out}: {result['codes']} codes of series {series}, batch {batch}, {'written and ' if result['written'] else ''}issued")


@vouchers.command("print", epilog="Example: tillstream vouchers print codes.csv --format qr --out sheet.svg")
@click.argument("codes", type=click.Path(path_type=Path), metavar="CODES.csv")
@click.option("--format", "symbol", type=click.Choice(["qr", "code128"]), default="qr", show_default=True, help="What a scanner reads.")
@click.option("--out", type=click.Path(path_type=Path), metavar="PLACE", required=True, help="sheet.svg, sheet.pdf, or a folder.")
@JSON
def print_codes(codes: Path, symbol: str, out: Path, as_json: bool) -> None:
    """Draws the codes of a file, for a printer: sheets of A4, or a picture for each."""
    try:
        from tillstream.voucher_sheets import print_vouchers
    except ImportError as error:
        fail(f"printing needs {error.name}: pip install 'tillstream[vouchers]'", 2)
    result = print_vouchers(codes, symbol, out)
    if as_json:
        print_json(result)
    else:
        click.echo(f"{result['codes']} codes in {result['files']} files, from {result['first']} on")


@vouchers.command(epilog="Example: tillstream vouchers status --series spring --json")
@SERIES
@JSON
def status(series: str, as_json: bool) -> None:
    """Counts the codes of a series by what they are now: free, released, reserved, redeemed, expired, revoked."""
    from tillstream.vouchers import status as status_of

    result = asyncio.run(status_of(load_config(), series))
    if as_json:
        print_json(result)
        return
    for row in [{"batch": "all", **result}, *result["batches"]]:
        counts = ", ".join(f"{name} {number}" for name, number in row.items() if isinstance(number, int) and name != "codes")
        click.echo(f"{series}/{row['batch']}: {counts}")


@vouchers.command(epilog="Example: tillstream vouchers revoke --series spring --batch 1 --reason stolen")
@SERIES
@click.option("--batch", metavar="B", help="Only this batch; default: all that the series has by now.")
@click.option("--code", metavar="CODE", help="Only this code.")
@click.option("--reason", default="", metavar="TEXT", help="Kept beside it.")
@JSON
def revoke(series: str, batch: str | None, code: str | None, reason: str, as_json: bool) -> None:
    """Takes codes out of use; what was redeemed stays so. It can't be undone."""
    from tillstream.vouchers import revoke as revoke_codes

    check_names(series, batch)
    result = revoke_codes(load_config(), series, batch, code, reason[:256])
    if as_json:
        print_json(result)
    else:
        click.echo(f"revoked: {result['revoked']}")


def check_names(series: str, batch: str | None) -> None:
    """Ends with a mistake where a name is none."""
    for option, name in (("--series", series), ("--batch", batch)):
        if name is not None and not NAME.fullmatch(name):
            fail(f"{option} {name!r}: 1 to 64 letters, digits, dots, hyphens and underscores, a letter or digit first", 2)


def zone_of(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        fail(f"--time-zone {name!r}: there is no such zone; they are named as Europe/Warsaw", 2)


def parse_worth(text: str) -> Worth:
    """What a code gives, from how it is written.

    >>> parse_worth("20.00 PLN").amount_off, parse_worth("12.5%").basis_points_off, parse_worth("100 points").points
    (2000, 1250, 100)
    >>> parse_worth("20.00PLN") == parse_worth(" 20 PLN ")
    True
    """
    number, unit = found.groups() if (found := WORTH.fullmatch(text.strip())) else ("0", "")
    scale = 2 if unit == "%" else minor_digits(unit) if re.fullmatch("[A-Z]{3}", unit) else 0
    amount = Decimal(number).scaleb(scale)
    most = 10_000 if unit == "%" else 2**63 - 1
    if not 0 < amount <= most or amount != int(amount):
        fail(f'--worth {text!r}: is not a positive "20.00 PLN", "15%" or "100 points"', 2)
    if unit == "%":
        return Worth(basis_points_off=int(amount))
    return Worth(amount_off=int(amount), currency=unit) if re.fullmatch("[A-Z]{3}", unit) else Worth(points=int(amount), unit=unit)


def show_progress(step: str, codes: int) -> None:
    """One line on standard error, written over."""
    click.echo(f"\r{codes:>12,} {step}  ", err=True, nl=False)
