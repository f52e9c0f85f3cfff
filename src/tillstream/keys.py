"""Keys into the topic `keys`, and what is there: `tillstream keys`.

In: what a key is to be, the topic as it stands. Out: one record more, told in the audit log, or the reason why not.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

from msgspec import to_builtins
from rich.console import Console
from rich.table import Column, Table

from tillstream.auditing import note
from tillstream.config import Config
from tillstream.errors import UsageError
from tillstream.gateway.keyring import publish_key, read_keys
from tillstream.gateway.keys import mint
from tillstream.gateway.vault import Vault
from tillstream.schemas.keys import Created, Revoked, Scope, revoked
from tillstream.servers import check_identity_key, check_kafka, failures_named
from tillstream.tls import kafka_settings


def create_key(
    config: Config, scope: str, stores: Sequence[str], name: str, expires_at: datetime | None, *, signed: bool
) -> tuple[str, dict[str, Any]]:
    """Publishes a new key; its token, and the row that `keys list` shows of it.

    Raises:
        UsageError: the options do not go together, or a server is away.
    """
    moment = datetime.now(UTC)
    if (scope == "till") != bool(stores):
        raise UsageError("--store says whose receipts a key of --scope till posts: give it at least one, and to no other scope")
    if expires_at is not None and expires_at <= moment:
        raise UsageError(f"--expires {expires_at:%Y-%m-%d}: is past; give a later day, or none")
    if signed:
        check_identity_key(config)
    check_kafka(config)
    minted = mint(cast(Scope, scope), stores, name, expires_at, moment, Vault(config.identity_key.encode()) if signed else None)
    with failures_named(config):
        publish_key(kafka_settings(config), minted.key)
        note(config, "keys create", [minted.key.key_id], moment)
    return minted.token, row_of(minted.key, moment)


def revoke_key(config: Config, key_id: str) -> bool:
    """Revokes a key; False: it was before.

    Raises:
        UsageError: there is none of this id, or a server is away.
    """
    moment = datetime.now(UTC)
    check_kafka(config)
    with failures_named(config):
        key = read_keys(kafka_settings(config)).known.get(key_id)
        if key is None:
            raise UsageError(f"there is no key {key_id}; tillstream keys list shows all")
        if isinstance(key, Revoked):
            return False
        publish_key(kafka_settings(config), revoked(key, moment))
        note(config, "keys revoke", [key_id], moment)
    return True


def known_keys(config: Config) -> list[dict[str, Any]]:
    """All keys in the order of their creation.

    Raises:
        UsageError: a server is away.
    """
    check_kafka(config)
    with failures_named(config):
        known = read_keys(kafka_settings(config)).known.values()
    return [row_of(key, datetime.now(UTC)) for key in sorted(known, key=lambda key: (key.created_at, key.key_id))]


def row_of(key: Created | Revoked, moment: datetime) -> dict[str, Any]:
    """What is shown of a key."""
    state = "revoked" if isinstance(key, Revoked) else "expired" if key.expires_at is not None and key.expires_at <= moment else "valid"
    shown = to_builtins(key)
    shown.pop("kept", None)
    return {**shown, "revoked_at": shown.get("revoked_at"), "state": state}


def show_keys(rows: list[dict[str, Any]]) -> None:
    """Keys as a table."""
    table = Table(Column("id", no_wrap=True), "name", "scope", "stores", "signed", "created", "until", "state")
    for row in rows:
        stores, signed = ", ".join(row["stores"]), "yes" if row["signed"] else ""
        created, expires = row["created_at"][:10], (row["expires_at"] or "")[:10]
        table.add_row(row["key_id"], row["name"], row["scope"], stores, signed, created, expires, row["state"])
    Console(highlight=False).print(table)
