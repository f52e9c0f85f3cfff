"""The commands `keys` and `audit`: who may ask a gateway, and what was changed by whom."""

from datetime import UTC, datetime

import click

from tillstream.commands import JSON, print_json
from tillstream.config import load_config
from tillstream.schemas.keys import SCOPES


@click.group()
def keys() -> None:
    """Keys for tills and people who call the gateway."""


@keys.command(epilog="Example: tillstream keys create --scope till --store PL-0001 --name front-till")
@click.option("--scope", type=click.Choice(SCOPES), required=True, help="What it may do; docs/gateway-security.md tells.")
@click.option("--store", "stores", metavar="S", multiple=True, help="Of a till: the store whose receipts it posts; PL-* for many.")
@click.option("--name", default="", metavar="TEXT", help="Whose it is; shown in lists and in the audit log.")
@click.option("--expires", type=click.DateTime(["%Y-%m-%d"]), metavar="DATE", help="From the beginning of this day (UTC) on it is no key.")
@click.option("--signed", is_flag=True, help="Requests are signed by its secret and do not bring it.")
@JSON
def create(scope: str, stores: tuple[str, ...], name: str, expires: datetime | None, signed: bool, as_json: bool) -> None:
    """Makes a key and shows it, once: what is kept does not tell it again."""
    from tillstream.keys import create_key

    ends = None if expires is None else expires.replace(tzinfo=UTC)
    token, row = create_key(load_config(), scope, stores, name, ends, signed=signed)
    if as_json:
        print_json({"token": token, **row})
        return
    click.echo(token)
    click.echo(f"key {row['key_id']}, scope {scope}. Store it now, it is not shown again.", err=True)


@keys.command("list", epilog="Example: tillstream keys list")
@JSON
def list_keys(as_json: bool) -> None:
    """Lists all keys, revoked ones too."""
    from tillstream.keys import known_keys, show_keys

    rows = known_keys(load_config())
    if as_json:
        print_json({"keys": rows})
    else:
        show_keys(rows)


@keys.command(epilog="Example: tillstream keys revoke 5f1c0e9a7b3d2461")
@JSON
@click.argument("key_id", metavar="ID")
def revoke(key_id: str, as_json: bool) -> None:
    """Takes a key's rights away; gateways know within seconds, and it can't be undone."""
    from tillstream.keys import revoke_key

    done = revoke_key(load_config(), key_id)
    if as_json:
        print_json({"key_id": key_id, "revoked": done})
    else:
        click.echo(f"key {key_id}: {'revoked' if done else 'was revoked before'}")


@click.command(epilog="Example: tillstream audit --json")
@JSON
def audit(as_json: bool) -> None:
    """Lists who changed members, keys and programs: when, about whom, and what came of it."""
    from tillstream.auditing import audited, show_audited

    rows = audited(load_config())
    if as_json:
        print_json({"actions": rows})
    else:
        show_audited(rows)
