"""Webhooks, on real servers: a worker that delivers, and receivers that take, refuse, dawdle and vanish."""

import asyncio
import base64
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner
from msgspec import structs
from standardwebhooks.webhooks import Webhook as Verifier

from tests.pipeline_harness import PARTITIONS, Stage, stage, until
from tests.triggers import triggered
from tillstream.cli import main
from tillstream.config import Config
from tillstream.installation import WorkerProcess, environment_of
from tillstream.kernels.retrying import wait_s
from tillstream.schemas.deliveries import decode_delivery, encode_delivery, new_delivery
from tillstream.schemas.endpoints import PLACEHOLDERS, InvalidEndpoints, Webhook, parse_endpoints
from tillstream.sinks.delivery.addresses import is_public
from tillstream.sinks.delivery.webhook import Attempt, Poster, WebhookSender
from tillstream.sinks.directory import MEMBERS_KEY
from tillstream.streams.topics import DELIVERIES, TRIGGERS

SECRETS = ["whsec_" + base64.b64encode(bytes([letter]) * 32).decode() for letter in (1, 2)]

ARRIVED_S = 40.0

PAGE = Path(__file__).parent.parent / "docs/delivery.md"

SMS = '[[endpoints]]\nkind = "template"\nid = "a"\nurl = "https://a.example"'

HOOK = '[[endpoints]]\nkind = "webhook"\nid = "a"\nurl = "https://a.example"\nsecrets = ["env:A"]'


class Posted(NamedTuple):
    """A request of ours."""

    path: str
    headers: dict[str, str]
    body: bytes
    at_s: float


class Receiver(ThreadingHTTPServer):
    """Endpoints by path; `answers` says for a path and the number of the request there: a status, headers, and after how many seconds."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taking)
        self.posted: list[Posted] = []
        self.answers: Callable[[str, int], tuple[int, dict[str, str], float]] = lambda path, number: (204, {}, 0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def ids(self, path: str) -> list[str]:
        return [each.headers.get("webhook-id", "") for each in self.posted if each.path == path]


class Taking(BaseHTTPRequestHandler):
    """One request."""

    server: Receiver

    def do_PUT(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        number = len(self.server.ids(self.path))
        self.server.posted.append(Posted(self.path, {name.lower(): value for name, value in self.headers.items()}, body, time.time()))
        status, headers, after_s = self.server.answers(self.path, number)
        time.sleep(after_s)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing is told to the terminal."""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("deliver")) as there:
        know_members(there)
        yield there


def know_members(here: Stage) -> None:
    """Lets Redis count as one that has all members, as a worker that gives points does; there are none."""
    with here.client() as client:
        client.set(MEMBERS_KEY, -1)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def config_of(here: Stage, folder: Path, *endpoints: dict[str, Any], private: bool = True) -> Config:
    """A configuration with these endpoints; secrets and the rest may be left out."""
    for number, secret in enumerate(SECRETS):
        (folder / f"secret-{number}").write_text(secret + "\n")
    lines = []
    for endpoint in endpoints:
        whole = {"kind": "webhook", "secrets": [f"file:{folder}/secret-0"], "schedule_s": [1, 1, 1], **endpoint}
        lines += ["[[endpoints]]", *(f"{name} = {json.dumps(value)}" for name, value in whole.items())]
    path = folder / "endpoints.toml"
    path.write_text("\n".join(lines))
    return structs.replace(here.config, endpoints=str(path), deliver_private=private)


@contextmanager
def delivering(config: Config, folder: Path) -> Iterator[WorkerProcess]:
    worker = WorkerProcess(config, "deliver", folder)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop()


def states(here: Stage, decision: str) -> dict[str, Any]:
    """The last standing of a decision, by endpoint; none where there is none yet."""
    found = [decode_delivery(message.value() or b"") for message in here.records(DELIVERIES, PARTITIONS)]
    return ({delivery.decision_id: delivery.parcels for delivery in found}).get(decision, {})


def settled(here: Stage, decision: str) -> bool:
    parcels = states(here, decision)
    return bool(parcels) and all(parcel.state != "waiting" for parcel in parcels.values())


@pytest.mark.slow
def test_trigger_comes_signed_by_every_secret_to_those_who_want_it(here: Stage, receiver: Receiver, tmp_path: Path) -> None:
    config = config_of(
        here, tmp_path,
        {"id": "all", "url": f"{receiver.url}/all", "secrets": [f"file:{tmp_path}/secret-0", f"file:{tmp_path}/secret-1"]},
        {"id": "email", "url": f"{receiver.url}/email", "channels": ["email"]},
        {"id": "tea", "url": f"{receiver.url}/tea", "offers": ["te*"]},
    )  # fmt: skip
    with delivering(config, tmp_path / "worker") as worker:
        here.send([triggered("w1"), b"no trigger", triggered("w2", channel="email", offer_id="tea"), triggered("w1")], TRIGGERS, "a1")
        until(lambda: settled(here, "w1") and settled(here, "w2"), "both delivered", ARRIVED_S, worker)
    assert sorted(receiver.ids("/all")) == ["w1", "w2"]
    assert (receiver.ids("/email"), receiver.ids("/tea")) == (["w2"], ["w2"])
    (first,) = [each for each in receiver.posted if each.path == "/all" and each.headers["webhook-id"] == "w1"]
    for secret in SECRETS:
        told = Verifier(secret).verify(first.body, first.headers)
        assert (told["type"], told["data"]["decision_id"], set(told)) == ("offer.triggered", "w1", {"type", "timestamp", "data"})
    assert [letter.code for letter in here.dead_letters() if letter.topic == TRIGGERS] == ["not_json"]


@pytest.mark.slow
def test_delivery_that_fails_is_tried_again_under_the_same_id_and_then_given_up(here: Stage, receiver: Receiver, tmp_path: Path) -> None:
    def answers(path: str, number: int) -> tuple[int, dict[str, str], float]:
        if path == "/later":
            return (204, {}, 0) if number == 2 else (503, {"Retry-After": "2"} if number == 0 else {}, 0)
        return {"/never": 500, "/moved": 302, "/gone": 410}[path], {"Location": f"{receiver.url}/elsewhere"}, 0

    receiver.answers = answers
    endpoints = [{"id": name, "url": f"{receiver.url}/{name}"} for name in ("later", "never", "gone", "moved")]
    with delivering(config_of(here, tmp_path, *endpoints), tmp_path / "worker") as worker:
        here.send([triggered("r1")], TRIGGERS, "a1")
        until(lambda: settled(here, "r1"), "settled", ARRIVED_S, worker)
        found = states(here, "r1")
        assert {name: (parcel.state, parcel.attempts) for name, parcel in found.items()} == {
            "later": ("delivered", 3), "never": ("dead", 4), "gone": ("dead", 1), "moved": ("dead", 4),
        }  # fmt: skip
        here.send([triggered("r2")], TRIGGERS, "a1")
        until(lambda: states(here, "r2").get("gone") is not None and states(here, "r2")["gone"].state == "dead", "gone", ARRIVED_S, worker)
    assert receiver.ids("/gone") == ["r1"]
    assert set(receiver.ids("/later")) == {"r1", "r2"}
    assert receiver.ids("/elsewhere") == []
    first, second = [each for each in receiver.posted if each.path == "/later" and each.headers["webhook-id"] == "r1"][:2]
    assert second.at_s - first.at_s > 1.9
    assert first.body == second.body
    letters = [letter for letter in here.dead_letters() if letter.code == "undeliverable"]
    assert {letter.message.partition(":")[0] for letter in letters} >= {"never", "gone", "moved"}
    assert json.loads(base64.b64decode(letters[0].event_base64))["data"]["decision_id"] == "r1"


@pytest.mark.slow
def test_expired_trigger_is_not_delivered_any_more(here: Stage, receiver: Receiver, tmp_path: Path) -> None:
    receiver.answers = lambda path, number: (500, {}, 0)
    endpoint = {"id": "all", "url": f"{receiver.url}/all", "schedule_s": [2, 2]}
    with delivering(config_of(here, tmp_path, endpoint), tmp_path / "worker") as worker:
        here.send([triggered("x1", lasts_s=-1), triggered("x2", lasts_s=3)], TRIGGERS, "a1")
        until(lambda: settled(here, "x1") and settled(here, "x2"), "expired", ARRIVED_S, worker)
    assert states(here, "x1")["all"].state == "expired"
    assert "x1" not in receiver.ids("/all")
    assert states(here, "x2")["all"].state == "expired" or "x2" not in receiver.ids("/all")


@pytest.mark.slow
def test_slow_endpoint_does_not_hold_up_another(here: Stage, receiver: Receiver, tmp_path: Path) -> None:
    receiver.answers = lambda path, number: (204, {}, 3.0 if path == "/slow" else 0)
    endpoints = [{"id": name, "url": f"{receiver.url}/{name}", "timeout_s": 1, "at_once": 1} for name in ("slow", "quick")]
    with delivering(config_of(here, tmp_path, *endpoints), tmp_path / "worker") as worker:
        here.send([triggered(f"s{n}") for n in range(20)], TRIGGERS, "a1")
        until(lambda: len(receiver.ids("/quick")) >= 20, "the quick one has all", ARRIVED_S, worker)
        assert len(receiver.ids("/slow")) < 10
        until(lambda: len(receiver.ids("/slow")) >= 5, "five attempts", ARRIVED_S, worker)
        time.sleep(3)
        assert len(receiver.ids("/slow")) <= 6  # The circuit is open.


@pytest.mark.slow
def test_worker_killed_in_the_middle_delivers_all_after_all(here: Stage, receiver: Receiver, tmp_path: Path) -> None:
    down = True
    receiver.answers = lambda path, number: (500 if down and number % 2 else 204, {}, 0)
    config = config_of(here, tmp_path, {"id": "all", "url": f"{receiver.url}/all", "schedule_s": [3, 3, 3, 3]})
    names = {f"k{n}" for n in range(30)}
    with delivering(config, tmp_path / "first") as worker:
        here.send([triggered(name) for name in sorted(names)], TRIGGERS, "a1")
        until(lambda: len(set(receiver.ids("/all")) & names) >= 10, "some were tried", ARRIVED_S, worker)
        worker.kill()
    down = False
    with delivering(config, tmp_path / "second") as worker:
        until(lambda: all(settled(here, name) for name in names), "all settled", ARRIVED_S, worker)
    assert {states(here, name)["all"].state for name in names} == {"delivered"}
    assert names <= set(receiver.ids("/all"))


def test_replay_delivers_what_is_asked_for_again_and_status_counts(here: Stage, receiver: Receiver, tmp_path: Path) -> None:
    receiver.answers = lambda path, number: (500 if path == "/bad" else 204, {}, 0)
    endpoints = [{"id": name, "url": f"{receiver.url}/{name}"} for name in ("good", "bad")]
    environment = environment_of(config_of(here, tmp_path, *endpoints))

    def run(*words: str) -> tuple[int, Any]:
        result = CliRunner().invoke(main, ["webhooks", *words, "--json"], env=environment)
        return result.exit_code, json.loads(result.stdout) if result.stdout.startswith("{") else result.output

    here.send([triggered("again"), triggered("again-expired", lasts_s=-1)], TRIGGERS, "a1")
    status, said = run("replay", "--id", "again", "--endpoint", "good")
    assert (status, said["deliveries"]) == (0, [{"decision_id": "again", "endpoint": "good", "result": "delivered", "reason": ""}])
    status, said = run("replay", "--id", "again", "--id", "again-expired")
    assert (status, sorted(each["result"] for each in said["deliveries"])) == (1, ["delivered", "expired", "expired", "failed"])
    assert (receiver.ids("/good"), receiver.ids("/bad")) == (["again"] * 2, ["again"])
    assert run("replay", "--since", "2999-01-01") == (0, {"deliveries": []})
    assert run("replay")[0] == run("replay", "--id", "x", "--endpoint", "none")[0] == 2
    delivery = new_delivery("counted", 0, ["good", "bad"], json.dumps(triggered("counted")).encode())
    delivery.parcels["good"].state, delivery.parcels["bad"].reason = "delivered", "status 500"
    delivery.parcels["bad"].next_at = datetime(2026, 3, 7, tzinfo=UTC)
    here.send([encode_delivery(delivery, datetime.now(UTC))], DELIVERIES, "counted")
    rows = {row["endpoint"]: row for row in run("status")[1]["endpoints"]}
    assert rows["good"]["delivered"] >= 1
    assert (rows["bad"]["waiting"], rows["bad"]["next_at"], rows["bad"]["reason"]) == (1, "2026-03-07T00:00:00+00:00", "status 500")


def test_template_becomes_the_request_that_it_describes(here: Stage, receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("Bearer s3cret\n")
    config = config_of(here, tmp_path)
    Path(config.endpoints).write_text(
        f"""
        [[endpoints]]
        kind = "template"
        id = "sms"
        method = "PUT"
        url = "{receiver.url}/sms"
        headers = {{ Authorization = "file:{tmp_path}/token", Idempotency-Key = "{{decision_id}}", X-Title = "{{title}}" }}
        body = {{ to = "{{member_id}}", points = "{{points}}", parts = [{{ text = "{{title}} until {{expires_at}}" }}, 1, true] }}
        """
    )
    title = 'tea "for" {member_id}\r\nX-Evil: 1'
    event = triggered("t1", channel="sms", title=title)
    here.send([event], TRIGGERS, "a1")
    result = CliRunner().invoke(main, ["webhooks", "replay", "--id", "t1"], env=environment_of(config))
    assert (result.exit_code, result.output) == (0, "t1 sms: delivered\n1 deliveries\n")
    (posted,) = receiver.posted
    assert (posted.headers["authorization"], posted.headers["idempotency-key"]) == ("Bearer s3cret", "t1")
    assert (posted.headers["x-title"], "x-evil" in posted.headers) == ('tea "for" {member_id}??X-Evil: 1', False)
    text = f"{title} until {datetime.fromisoformat(event['data']['expires_at']).isoformat()}"
    assert json.loads(posted.body) == {"to": "m1", "points": 50, "parts": [{"text": text}, 1, True]}


def test_private_address_is_refused_unless_it_is_allowed(receiver: Receiver) -> None:
    port = receiver.server_address[1]

    async def tried(private: bool, url: str) -> Attempt:
        poster = Poster(private)
        try:
            (endpoint,) = parse_endpoints(f'[[endpoints]]\nkind = "webhook"\nid = "a"\nurl = "{url}"\nsecrets = ["env:A"]')
            assert isinstance(endpoint, Webhook)
            return await WebhookSender(endpoint, [b"x" * 24]).send(poster, "p1", json.dumps(triggered("p1")).encode(), 0)
        finally:
            await poster.close()

    for url in (f"https://127.0.0.1:{port}/x", f"https://localhost:{port}/x", f"https://[::1]:{port}/x", "http://example.org/x"):
        refused = asyncio.run(tried(False, url))
        assert refused.result == "failed"
        assert "deliver_private" in refused.reason, refused
    assert receiver.posted == []
    assert asyncio.run(tried(True, f"{receiver.url}/x")).result == "delivered"


def test_address_that_hides_a_private_one_is_private() -> None:
    hidden = ("::ffff:192.168.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "fe80::1%eth0", "fd00::1", "0.0.0.0", "100.64.0.1", "224.0.0.1")
    assert not any(map(is_public, hidden))
    assert is_public("2606:4700:4700::1111")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", "$"),
        ("[", "$"),
        ("endpoints = []", "$.endpoints"),
        ('[[endpoints]]\nkind = "pigeon"', "$.endpoints[0].kind"),
        ('[[endpoints]]\nkind = "webhook"\nid = "A"\nurl = "https://a.example"\nsecrets = ["env:A"]', "$.endpoints[0].id"),
        ('[[endpoints]]\nkind = "webhook"\nid = "a"\nurl = "ftp://a.example"\nsecrets = ["env:A"]', "$.endpoints[0].url"),
        ('[[endpoints]]\nkind = "webhook"\nid = "a"\nurl = "https://u:p@a.example"\nsecrets = ["env:A"]', "$.endpoints[0].url"),
        ('[[endpoints]]\nkind = "webhook"\nid = "a"\nurl = "https://a.example"\nsecrets = ["whsec_AAAA"]', "$.endpoints[0].secrets[0]"),
        (f"{HOOK}\nschedule_s = [0]", "$.endpoints[0].schedule_s[0]"),
        (f"{HOOK}\n{HOOK}", "$.endpoints[1].id"),
        (f'{SMS}\nbody = {{ a = ["{{titel}}"] }}', "$.endpoints[0].body.a[0]"),
        (f"{SMS}\nbody = {{ a = 1.5 }}", "$.endpoints[0].body.a"),
        (f'{SMS}\nbody = {{}}\nheaders = {{ X = "{{why_not}}" }}', "$.endpoints[0].headers.X"),
    ],
)  # fmt: skip
def test_mistake_in_the_file_is_told_with_its_path(text: str, path: str) -> None:
    with pytest.raises(InvalidEndpoints) as refused:
        parse_endpoints(text)
    assert refused.value.mistakes[0].path == path


def test_worker_without_endpoints_or_secrets_says_what_is_missing(here: Stage, tmp_path: Path) -> None:
    def said(config: Config) -> str:
        result = CliRunner().invoke(main, ["worker", "--role", "deliver"], env=environment_of(config))
        assert result.exit_code == 2
        return result.output

    assert "endpoints: say where" in said(here.config)
    config = config_of(here, tmp_path, {"id": "a", "url": "https://a.example", "secrets": ["env:NOBODY_HAS_SET_THIS"]})
    assert "$.endpoints[0].secrets[0]: there is no secret at env:NOBODY_HAS_SET_THIS" in said(config)
    (tmp_path / "short").write_text("whsec_AAAA")
    config = config_of(here, tmp_path, {"id": "a", "url": "https://a.example", "secrets": [f"file:{tmp_path}/short"]})
    assert "3 bytes; 24 to 64" in said(config)


def test_waits_grow_by_the_schedule_and_are_spread() -> None:
    waits = [wait_s([10, 100], 1, f"d{n} crm") or 0 for n in range(200)]
    assert 9 <= min(waits) < 9.2
    assert 10.8 < max(waits) < 11
    assert wait_s([10, 100], 2, "d1 crm", 10**9) == 86_400
    assert wait_s([], 1, "d1 crm") is None


def test_endpoints_of_the_page_are_endpoints() -> None:
    shown = re.findall(r"^```toml\n(\[\[endpoints.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert [endpoint.id for endpoint in parse_endpoints("\n".join(shown))] == ["crm", "sms", "mail"]
    told = set(re.findall(r"`\{(\w+)\}`", PAGE.read_text()))
    assert told == set(PLACEHOLDERS)
