"""Keys on a real topic: made by the command line, followed by a gateway, there again when everything but Kafka is gone."""

import asyncio
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result
from confluent_kafka.admin import AdminClient
from msgspec.structs import replace

from tests.kafka_cluster import KafkaCluster, why_unavailable
from tests.pipeline_harness import PROGRAM
from tillstream.cli import main
from tillstream.config import Config
from tillstream.embedded.broker import Broker
from tillstream.gateway.keyring import Keyring, read_keys
from tillstream.gateway.keys import parse_token
from tillstream.gateway.vault import Vault
from tillstream.installation import environment_of
from tillstream.schemas.audit import Action, decode_action
from tillstream.streams.recovery import read_topic
from tillstream.streams.topics import AUDIT, KEYS, ensure_topics

IDENTITY_KEY = "0123456789abcdef"
FOLLOWED_S = 20.0


@pytest.fixture(scope="module")
def config() -> Iterator[Config]:
    with Broker() as kafka:
        ensure_topics(kafka, 1, 1)
        yield Config(kafka=kafka, identity_key=IDENTITY_KEY, partitions=1)


def invoke(config: Config, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["keys", *arguments], env=environment_of(config))


def created(config: Config, *options: str) -> str:
    """A new key's token."""
    result = invoke(config, "create", *options, "--json")
    assert result.exit_code == 0, result.output
    token: str = orjson.loads(result.stdout)["token"]
    return token


def now() -> datetime:
    return datetime.now(UTC)


def followed(keyring: Keyring, token: str, *, passes: bool) -> None:
    """Looks until the key passes, or does not."""
    deadline = time.monotonic() + FOLLOWED_S
    while (keyring.keys.bearer(token, now()) is not None) != passes:
        assert time.monotonic() < deadline
        keyring.look()
        time.sleep(0.05)


def actions(config: Config) -> list[Action]:
    return [decode_action(message.value() or b"") for message in read_topic({"bootstrap.servers": config.kafka}, AUDIT, 0, 0)]


def test_key_from_creation_to_revocation_is_followed_and_listed(config: Config) -> None:
    before = created(config, "--scope", "read", "--name", "before")
    keyring = Keyring({"bootstrap.servers": config.kafka}, Vault(IDENTITY_KEY.encode()))
    asyncio.run(keyring.start())
    assert keyring.keys.bearer(before, now()) is not None
    token = created(config, "--scope", "till", "--store", "PL-0001", "--store", "CZ-*", "--name", "front till")
    followed(keyring, token, passes=True)
    key = keyring.keys.bearer(token, now())
    assert key is not None
    assert (key.scope, key.stores, key.name, key.signed, key.expires_at) == ("till", ["PL-0001", "CZ-*"], "front till", False, None)

    row = orjson.loads(invoke(config, "list", "--json").stdout)["keys"][-1]
    assert (row["key_id"], row["state"], row["stores"]) == (key.key_id, "valid", ["PL-0001", "CZ-*"])
    assert key.key_id in invoke(config, "list").stdout
    secret = token.rpartition("_")[2]
    assert not any(secret.encode() in (m.value() or b"") for m in read_topic({"bootstrap.servers": config.kafka}, KEYS, 0, 0))

    assert orjson.loads(invoke(config, "revoke", key.key_id, "--json").stdout)["revoked"] is True
    followed(keyring, token, passes=False)
    keyring.close()
    assert orjson.loads(invoke(config, "revoke", key.key_id, "--json").stdout)["revoked"] is False
    assert {row["key_id"]: row["state"] for row in orjson.loads(invoke(config, "list", "--json").stdout)["keys"]}[key.key_id] == "revoked"
    assert read_keys({"bootstrap.servers": config.kafka}).bearer(token, now()) is None
    told = [(action.action, action.name) for action in actions(config) if action.about == [key.key_id]]
    assert told == [("keys create", "command line"), ("keys revoke", "command line")]


def test_key_with_an_end_is_past_it(config: Config) -> None:
    token = created(config, "--scope", "admin", "--expires", "2999-01-01")
    keys = read_keys({"bootstrap.servers": config.kafka})
    assert keys.bearer(token, now()) is not None
    assert keys.bearer(token, datetime(2999, 1, 1, tzinfo=UTC)) is None


def test_signed_key_opens_with_the_installations_identity_key_only(config: Config) -> None:
    token = parse_token(created(config, "--scope", "till", "--store", "PL-0001", "--signed"))
    assert token is not None
    for identity_key, opens in ((IDENTITY_KEY, True), ("another-identity-key", False)):
        keyring = Keyring({"bootstrap.servers": config.kafka}, Vault(identity_key.encode()))
        asyncio.run(keyring.start())
        assert (keyring.keys.signing(token.key_id, now()) == (keyring.keys.valid(token.key_id, now()), token.secret)) is opens
        keyring.close()


def test_mistakes_of_the_command_line_are_one_line_each(config: Config) -> None:
    for arguments, words in (
        (["create", "--scope", "till"], "--store"),
        (["create", "--scope", "read", "--store", "PL-0001"], "--store"),
        (["create", "--scope", "read", "--expires", "2020-01-01"], "--expires"),
        (["create", "--scope", "read", "--expires", "soon"], "--expires"),
        (["create", "--scope", "everything"], "--scope"),
        (["revoke", "0" * 16], f"no key {'0' * 16}"),
    ):
        result = invoke(config, *arguments)
        assert result.exit_code == 2, result.output
        assert words in result.stderr
    result = invoke(replace(config, identity_key=""), "create", "--scope", "till", "--store", "PL-0001", "--signed")
    assert (result.exit_code, "identity_key" in result.stderr) == (2, True)


def test_created_key_is_shown_once_to_a_person(config: Config) -> None:
    result = invoke(config, "create", "--scope", "read", "--name", "analyst")
    (token,) = re.findall(r"ts_[0-9a-f]{16}_[a-z2-7]{32}", result.stdout)
    assert read_keys({"bootstrap.servers": config.kafka}).bearer(token, now()) is not None
    assert token not in invoke(config, "list").stdout


def test_audit_command_reads_the_log(config: Config, tmp_path: Path) -> None:
    created(config, "--scope", "read", "--name", "auditor")
    result = CliRunner().invoke(main, ["audit", "--json"], env=environment_of(config))
    last = orjson.loads(result.stdout)["actions"][-1]
    assert (last["action"], last["key_id"], last["name"], last["outcome"]) == ("keys create", None, "command line", "done")
    (tmp_path / "club.toml").write_text(PROGRAM)
    program = CliRunner().invoke(main, ["program", "publish", "--json", str(tmp_path / "club.toml")], env=environment_of(config))
    version = orjson.loads(program.stdout)["programs"][0]["version"]
    assert (actions(config)[-1].action, actions(config)[-1].about) == ("program publish", [f"proof/{version}"])
    shown = CliRunner().invoke(main, ["audit"], env=environment_of(config)).stdout
    assert "keys create" in shown
    assert f"proof/{version}" in shown


@pytest.mark.slow
@pytest.mark.skipif(why_unavailable() is not None, reason=f"NOT TESTED ON KAFKA: {why_unavailable()}")
def test_keys_of_a_topic_that_is_gone_pass_no_more(tmp_path: Path) -> None:
    """On a real Kafka, whose answer to an offset that is beyond the end the embedded broker does not give."""
    with KafkaCluster(tmp_path) as cluster:
        kafka = {"bootstrap.servers": cluster.bootstrap, "log_level": 0}
        config = Config(kafka=cluster.bootstrap, identity_key=IDENTITY_KEY, partitions=1, replication=3)
        ensure_topics(config.kafka, 1, 3)
        tokens = [created(config, "--scope", "read") for _ in range(3)]
        keyring = Keyring(kafka, Vault(IDENTITY_KEY.encode()))
        asyncio.run(keyring.start())
        keyring.look()
        admin = AdminClient(kafka)
        admin.delete_topics([KEYS])[KEYS].result(FOLLOWED_S)
        until_gone(admin)
        ensure_topics(config.kafka, 1, 3)
        followed(keyring, tokens[0], passes=False)
        token = created(config, "--scope", "read")
        followed(keyring, token, passes=True)
        assert keyring.keys.bearer(tokens[1], now()) is None
        keyring.close()


def until_gone(admin: AdminClient) -> None:
    """Waits until no node lists the topic any more."""
    deadline = time.monotonic() + FOLLOWED_S
    while KEYS in admin.list_topics(timeout=FOLLOWED_S).topics:
        assert time.monotonic() < deadline
        time.sleep(0.1)
