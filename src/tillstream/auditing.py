"""The audit log from the command line: what commands change is told there, and `tillstream audit` reads it."""

import secrets
from datetime import datetime
from typing import Any

import msgspec
from msgspec import to_builtins

from tillstream.config import Config
from tillstream.schemas.audit import COMMAND_LINE, Action, decode_action, encode_action
from tillstream.servers import check_kafka, failures_named
from tillstream.streams.appending import append
from tillstream.streams.recovery import read_topic
from tillstream.streams.topics import AUDIT
from tillstream.tls import kafka_settings


def note(config: Config, action: str, about: list[str], moment: datetime) -> None:
    """Appends to the audit log what was done from the command line.

    Raises:
        KafkaException: it is not there.
    """
    data = Action(action=action, key_id=None, name=COMMAND_LINE, about=about, outcome="done", at=moment)
    append(kafka_settings(config), AUDIT, [(COMMAND_LINE, encode_action(secrets.token_hex(16), data))])


def audited(config: Config) -> list[dict[str, Any]]:
    """The audit log, oldest first; what is no record of ours is left out.

    Raises:
        UsageError: a server is away.
    """
    check_kafka(config)
    rows = []
    with failures_named(config):
        for message in read_topic(kafka_settings(config), AUDIT, 0, 0):
            try:
                rows.append(to_builtins(decode_action(message.value() or b"")))
            except msgspec.DecodeError:
                continue
    return rows


def show_audited(rows: list[dict[str, Any]]) -> None:
    """The audit log, one action a line; nothing is wrapped, so that it can be searched."""
    for row in rows:
        by = row["name"] if row["key_id"] is None else f"{row['key_id']} {row['name']}".strip()
        print(row["at"][:19], by, row["action"], ", ".join(row["about"]), row["outcome"], row["status"] or "", sep="  ")
