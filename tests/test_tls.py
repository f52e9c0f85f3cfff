"""TLS to every server and at the gateway: with certificates of an authority of our own, which nothing trusts unless it is told to."""

import http.client
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
import trustme
from click.testing import CliRunner, Result

from tests.pipeline_harness import PROGRAM, SESSION_MS
from tests.redis_servers import debian_redis
from tests.test_gateway import sale
from tests.tunnel import Tunnel
from tillstream.cli import main
from tillstream.config import Config
from tillstream.embedded.broker import Broker
from tillstream.embedded.clickhouse import ClickHouse
from tillstream.embedded.process import HOST, free_port
from tillstream.embedded.redis import Redis
from tillstream.errors import UsageError
from tillstream.installation import ROLES_HERE, GatewayProcess, WorkerProcess, environment_of
from tillstream.tls import kafka_security, server_context

SETTLED_S = 60.0


class Papers(NamedTuple):
    """An authority, a certificate of it for 127.0.0.1, and where they stand as PEM files."""

    authority: trustme.CA
    certificate: trustme.LeafCert
    ca: Path
    cert: Path
    key: Path

    def serving(self, *, both_ways: bool = False) -> ssl.SSLContext:
        """What a server shows; `both_ways`: it wants to see the client's as well."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.certificate.configure_cert(context)
        if both_ways:
            self.authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def papers(folder: Path) -> Papers:
    folder.mkdir(exist_ok=True)
    authority = trustme.CA()
    made = Papers(authority, authority.issue_cert(HOST), folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    authority.cert_pem.write_to_path(made.ca)
    for number, blob in enumerate(made.certificate.cert_chain_pems):
        blob.write_to_path(made.cert, append=number > 0)
    made.certificate.private_key_pem.write_to_path(made.key)
    return made


class AdvertisedBroker(Broker):
    """A broker that sends its clients to another port, behind which it stands."""

    advertised: int

    def command(self) -> list[str]:
        return [*super().command()[:-1], f"tcp://{HOST}:{self.advertised}"]


class SecureGateway(GatewayProcess):
    """A gateway that speaks https; ready when somebody who trusts `ca` is answered."""

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        context = ssl.create_default_context(cafile=self.ca)
        connection = http.client.HTTPSConnection(HOST, self.port, timeout=20, context=context)
        try:
            connection.request(method, path, None if body is None else orjson.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, orjson.loads(answer.read())
        finally:
            connection.close()

    def __init__(self, config: Config, folder: Path, ca: Path) -> None:
        super().__init__(config, folder)
        self.ca = ca

    def answers(self) -> bool:
        return self.running and self.ask("GET", "/readyz")[0] == 200


class Secure(NamedTuple):
    """Servers that are reached by TLS only, and the configuration that leads to them."""

    config: Config
    papers: Papers
    folder: Path

    def invoke(self, *arguments: str, **changed: str) -> Result:
        return CliRunner().invoke(main, arguments, env={**environment_of(self.config), **changed})


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    folder = tmp_path_factory.mktemp("tls")
    made = papers(folder)
    properties = folder / "kafka.properties"
    properties.write_text(
        f"# as kafka's own tools read it\nsecurity.protocol=SSL\nssl.ca.location={made.ca}\n\n"
        f"ssl.certificate.location = {made.cert}\nssl.key.location={made.key}\n"
    )
    with ExitStack() as stack:
        broker = AdvertisedBroker()
        kafka = stack.enter_context(Tunnel(made.serving(both_ways=True), lambda: broker.port))
        broker.advertised = kafka.port
        stack.enter_context(broker)
        clickhouse = ClickHouse()
        stack.enter_context(clickhouse)
        history = stack.enter_context(Tunnel(made.serving(), lambda: clickhouse.port))
        tls_port = free_port()
        files = ("--tls-cert-file", str(made.cert), "--tls-key-file", str(made.key), "--tls-ca-cert-file", str(made.ca))
        redis = Redis(binary=debian_redis(), options=("--tls-port", str(tls_port), "--tls-auth-clients", "no", *files))
        stack.enter_context(redis)
        (folder / "program.toml").write_text(PROGRAM)
        config = Config(
            program=str(folder / "program.toml"),
            identity_key="0123456789abcdef",
            partitions=4,
            kafka_transactions=False,
            session_ms=SESSION_MS,
            poll_interval_ms=6_000,
            log_level="warning",
            kafka=f"{HOST}:{kafka.port}",
            kafka_properties=str(properties),
            redis=f"rediss://{HOST}:{tls_port}/0",
            redis_ca=str(made.ca),
            clickhouse=f"https://{HOST}:{history.port}",
            clickhouse_ca=str(made.ca),
            gateway_tls_cert=str(made.cert),
            gateway_tls_key=str(made.key),
        )
        yield Secure(config, made, folder)


@pytest.mark.slow
def test_a_receipt_goes_all_the_way_encrypted(secure: Secure) -> None:
    with ExitStack() as stack:
        for role in ROLES_HERE:
            worker = WorkerProcess(secure.config, role, secure.folder / role)
            stack.callback(worker.stop)
            worker.start()
            # The first worker creates the topics.
            until(lambda: secure.invoke("keys", "list").exit_code == 0)
        created = secure.invoke("keys", "create", "--scope", "till", "--store", "PL-1", "--json")
        token = orjson.loads(created.stdout)["token"]
        gateway = SecureGateway(secure.config, secure.folder / "gateway", secure.papers.ca)
        stack.callback(gateway.stop)
        gateway.start()
        bearer = {"Authorization": f"Bearer {token}", "Prefer": "wait=9000"}
        status, body = gateway.ask("POST", "/v1/receipts", sale("r-1", "c-1"), **bearer)
        assert (status, body["outcome"]) == (200, "accepted")
        until(lambda: verified(secure)["clickhouse_accounts"] == 1)
        plain = http.client.HTTPConnection(HOST, gateway.port, timeout=5)
        plain.request("GET", "/healthz")
        with pytest.raises((http.client.HTTPException, OSError)):
            plain.getresponse()
        plain.close()


def verified(secure: Secure) -> dict[str, Any]:
    """What `verify` says of a system that is in order."""
    result = secure.invoke("verify", "--json")
    assert result.exit_code == 0, result.output
    said: dict[str, Any] = orjson.loads(result.stdout)
    return said


def until(holds: Any) -> None:
    deadline = time.monotonic() + SETTLED_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.slow
def test_server_that_an_authority_we_do_not_know_vouches_for_is_not_talked_to(secure: Secure, tmp_path: Path) -> None:
    stranger = papers(tmp_path / "stranger")
    properties = tmp_path / "kafka.properties"
    properties.write_text(f"security.protocol=SSL\nssl.ca.location={stranger.ca}\n")
    for changed, words in (
        ({"TILLSTREAM_REDIS_CA": str(stranger.ca)}, "Redis does not answer"),
        ({"TILLSTREAM_CLICKHOUSE_CA": str(stranger.ca)}, "ClickHouse does not answer"),
        ({"TILLSTREAM_KAFKA_PROPERTIES": str(properties)}, "Kafka does not answer"),
        ({"TILLSTREAM_KAFKA_PROPERTIES": ""}, "Kafka does not answer"),
    ):
        result = secure.invoke("worker", "--role", "history", **changed)
        assert result.exit_code == 2, result.output
        assert words in result.stderr


def test_mistakes_in_files_are_named(tmp_path: Path) -> None:
    made, other = papers(tmp_path / "a"), papers(tmp_path / "b")
    broken = tmp_path / "broken.properties"
    for line in ("ssl.ca.location", "acks=0", "enable.idempotence=false", "bootstrap.servers=x:1"):
        broken.write_text(f"security.protocol=SSL\n{line}\n")
        with pytest.raises(UsageError, match=r"kafka_properties: .*broken.properties, line 2: '.*' is no name=value"):
            kafka_security(Config(kafka_properties=str(broken)))
    with pytest.raises(UsageError, match="kafka_properties: nowhere: No such file"):
        kafka_security(Config(kafka_properties="nowhere"))
    assert server_context(Config()) is None
    for cert, key, words in (
        (str(made.cert), "", "go together"),
        (str(made.cert), "nowhere", "gateway_tls_key: nowhere: No such file"),
        (str(made.cert), str(other.key), "are no certificate and its key"),
        (str(broken), str(made.key), "are no certificate and its key"),
    ):
        with pytest.raises(UsageError, match=words):
            server_context(Config(gateway_tls_cert=cert, gateway_tls_key=key))
    for setting in ("redis_ca", "clickhouse_ca"):
        result = CliRunner().invoke(main, ["gateway"], env={f"TILLSTREAM_{setting.upper()}": str(broken), **gateway_settings()})
        assert (result.exit_code, f"{setting}: {broken}: no certificate" in result.stderr) == (2, True), result.output


def gateway_settings() -> dict[str, str]:
    """As many as a gateway looks at before it looks for servers."""
    return {"TILLSTREAM_IDENTITY_KEY": "0123456789abcdef", "TILLSTREAM_PROGRAM": "", "TILLSTREAM_KAFKA": "127.0.0.1:1"}
