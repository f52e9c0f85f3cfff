"""The client of tills against a real gateway, and against one that is away: nothing that it took is lost, and it never waits for long."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from aiohttp import web

from tests.gateway_harness import Place, gateway
from tests.test_gateway import LINES, came_back, sale, void
from tillstream.client import Away, Client, Queued, QueueFull, QueueUnusable, Refused
from tillstream.client.patience import BACKOFF_FIRST_S, PATIENCE_S
from tillstream.client.queue import REFUSED
from tillstream.errors import UsageError
from tillstream.gateway.answers import Outcome, Outcomes
from tillstream.gateway.keys import parse_token
from tillstream.gateway.problems import problem
from tillstream.gateway.signing import is_signed_by, parse_headers

__all__ = ["gateway"]

PATIENT_MS = 8_000
KEY = "ts_00000000000000aa_nb2hi4dthixs653xo4xg64tborygk3tf"
SETTLED_S = 20.0
NOBODY = "http://127.0.0.1:1"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

POSTING = """
import asyncio, sys
from pathlib import Path
from tillstream.client import Client, Queued
from tests.test_gateway import sale

async def main():
    async with Client("http://127.0.0.1:1", queue=Path(sys.argv[1]), patience_s=0) as till:
        for number in range(10_000):
            assert isinstance(await till.post(sale(f"k-{number}", "c-9")), Queued)
            print(number, flush=True)

asyncio.run(main())
"""
"""A till without a line, which says what it has been told is kept."""


class Recorder:
    """A server in place of the gateway, for what the real one does not do on demand; keeps what it was sent."""

    def __init__(self, *answers: web.Response) -> None:
        self.answers = list(answers)
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.times: list[float] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.read())
        self.times.append(time.monotonic())
        if self.answers:
            return self.answers.pop(0)
        if request.path.endswith("/batch"):
            count = len(orjson.loads(self.bodies[-1])["events"])
            return said(Outcomes([Outcome("accepted", "")] * count))
        return said(Outcome("accepted", ""))

    @property
    def receipts(self) -> list[str]:
        """The receipts of all batches, in order."""
        return [event["data"]["receipt_id"] for body in self.bodies for event in orjson.loads(body).get("events", [])]


@asynccontextmanager
async def serving(handler: Handler, port: int = 0, bytes_max: int = 1024**2) -> AsyncIterator[str]:
    app = web.Application(client_max_size=bytes_max)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def said(value: msgspec.Struct, status: int = 200, **headers: str) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json", headers=headers)


def away(**headers: str) -> web.Response:
    return web.Response(status=503, headers=headers)


def refused(folder: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in (folder / REFUSED).read_bytes().splitlines() if line]


def test_till_sells_quotes_holds_and_returns_at_a_real_gateway(gateway: Place, tmp_path: Path) -> None:
    async def at_the_till() -> None:
        async with Client(gateway.gateway.address, queue=tmp_path, wait_ms=PATIENT_MS) as till:
            sold = await till.post(sale("cl-1", "c-cl"))
            assert isinstance(sold, Outcome)
            assert (sold.outcome, sold.balances[0].balance, sold.entries[0].rule_id) == ("accepted", 41, "base")
            again = await till.post(sale("cl-1", "c-cl"))
            assert isinstance(again, Outcome)
            assert (again.outcome, again.entries) == ("duplicate", sold.entries)
            assert (await till.identify("card", "c-cl")).balances == sold.balances
            basket = {name: value for name, value in sale("x", "c-cl")["data"].items() if name != "receipt_id"}
            assert (await till.quote(basket)).earns["points"] == 41
            member = {"scheme": "card", "value": "c-cl"}
            hold = {"hold_id": "cl/h", "member": member, "points": 10, "expires_at": "2099-01-01T00:00:00Z"}
            assert (await till.hold({"data": hold})).balances[0].held == 10
            assert (await till.release("cl/h", {"data": {"member": member}})).balances[0].held == 0
            back = await till.post(came_back("cl-r", "cl-1", 800))
            assert isinstance(back, Outcome)
            assert back.balances[0].balance < 41
            undone = await till.post(void("cl-1"))
            assert isinstance(undone, Outcome)
            assert undone.balances[0].balance == 0
            found = await till.receipt("cl-1", "tills/PL-1", void=True)
            assert found is not None
            assert found.entries == undone.entries
            assert await till.status(sold.status) is not None
            assert await till.receipt("nobody's", "tills/PL-1") is None
            changed = await till.post(sale("cl-1", "c-cl", tenders=[{"type": "cash", "amount": 4539}]))
            assert isinstance(changed, Outcome)
            assert changed.problem is not None
            assert changed.problem.code == "conflict"
            batch = await till.post_batch([sale("cl-2", "c-cl"), sale("cl-1", "c-cl")])
            assert [outcome.outcome for outcome in batch] == ["accepted", "duplicate"]
            with pytest.raises(Refused, match=r"identity.value"):
                await till.identify("card", "")

    asyncio.run(at_the_till())


def test_receipts_of_a_till_without_a_line_wait_on_disk_and_go_out_in_order(gateway: Place, tmp_path: Path) -> None:
    heard: list[str] = []

    async def without_a_line() -> None:
        async with Client(NOBODY, queue=tmp_path, patience_s=0) as till:
            for number in range(30):
                assert await till.post(sale(f"off-{number}", "c-off")) == Queued(number + 1)
            with pytest.raises(Away):
                await till.identify("card", "c-off")

    async def with_a_line() -> None:
        told = lambda body, outcome: heard.append(f"{orjson.loads(body)['data']['receipt_id']} {outcome.outcome}")  # noqa: E731
        async with Client(gateway.gateway.address, queue=tmp_path, told=told, wait_ms=PATIENT_MS) as till:
            assert await till.drained(SETTLED_S)
            assert till.queued == 0
            last = await till.post(sale("off-30", "c-off"))
            assert isinstance(last, Outcome)
            assert last.balances[0].balance == 31 * 41

    asyncio.run(without_a_line())
    asyncio.run(with_a_line())
    assert [line.split()[0] for line in heard] == [f"off-{number}" for number in range(30)]


def test_receipts_that_a_killed_till_was_told_are_kept_are_sent(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", POSTING, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent)
    assert process.stdout is not None
    kept = [int(process.stdout.readline()) for _ in range(40)]
    process.send_signal(signal.SIGKILL)
    kept += [int(line) for line in process.stdout.read().split()]
    process.wait()
    process.stdout.close()
    server = Recorder()

    async def started_again() -> None:
        async with serving(server.answer) as url, Client(url, queue=tmp_path) as till:
            assert await till.drained(SETTLED_S)

    asyncio.run(started_again())
    assert server.receipts[: len(kept)] == [f"k-{number}" for number in kept]
    assert len(server.receipts) - len(kept) <= 1


def test_receipt_that_was_not_answered_is_sent_again_to_the_byte(tmp_path: Path) -> None:
    server = Recorder(away(), away(), away(**{"Retry-After": "1"}))

    async def posting() -> None:
        async with serving(server.answer) as url, Client(url, queue=tmp_path, patience_s=0) as till:
            first = await till.post(sale("b-1", "c-1"))
            assert first == Queued(1)
            assert await till.drained(SETTLED_S)

    asyncio.run(posting())
    single, *batches = server.bodies
    assert single in batches[0]
    assert len(batches) == 3
    assert set(batches) == {batches[0]}
    assert server.times[3] - server.times[2] >= 1.0


def test_batch_that_cannot_be_taken_in_time_is_halved_until_it_can(tmp_path: Path) -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        events = orjson.loads(await request.read())["events"]
        sizes.append(len(events))
        return away() if len(events) > 2 else said(Outcomes([Outcome("accepted", "")] * len(events)))

    sizes: list[int] = []

    async def posting() -> None:
        async with Client(NOBODY, queue=tmp_path, patience_s=0) as till:
            for number in range(10):
                await till.post(sale(f"h-{number}", "c-1"))
        async with serving(slow) as url, Client(url, queue=tmp_path) as till:
            assert await till.drained(SETTLED_S)

    asyncio.run(posting())
    assert sizes[:3] == [10, 5, 2]
    assert sum(size for size in sizes if size <= 2) == 10


def test_batch_of_megabytes_goes_out(tmp_path: Path) -> None:
    async def counting(request: web.Request) -> web.StreamResponse:
        events = orjson.loads(await request.read())["events"]
        taken.append(len(events))
        return said(Outcomes([Outcome("accepted", "")] * len(events)))

    taken: list[int] = []
    long = sale("l-1", "c-1")
    long["data"]["attributes"] = {"note": "x" * 4_000}

    async def posting() -> None:
        async with serving(counting, bytes_max=4_000_000) as url, Client(url) as till:
            await till.post_batch([long] * 400)

    asyncio.run(posting())
    assert taken == [400]


def test_refused_receipt_is_kept_aside_and_holds_up_none(tmp_path: Path) -> None:
    conflict = problem(409, "conflict", "other data came before")
    outcomes = Outcomes([Outcome("accepted", ""), Outcome("refused", "", problem=conflict), Outcome("pending", "")])
    server = Recorder(said(outcomes))

    async def posting() -> None:
        async with Client(NOBODY, queue=tmp_path, patience_s=0) as till:
            for number in range(3):
                await till.post(sale(f"r-{number}", "c-1"))
        async with serving(server.answer) as url, Client(url, queue=tmp_path) as till:
            assert await till.drained(SETTLED_S)

    asyncio.run(posting())
    (line,) = refused(tmp_path)
    assert line["event"] == sale("r-1", "c-1")
    assert line["problem"]["code"] == "conflict"


def test_batch_too_long_for_the_gateway_is_halved_until_one_is_refused_alone(tmp_path: Path) -> None:
    async def small(request: web.Request) -> web.StreamResponse:
        events = orjson.loads(await request.read())["events"]
        if len(events) > 2 or any(event["data"]["receipt_id"] == "s-3" for event in events):
            return web.Response(status=413)
        taken.extend(event["data"]["receipt_id"] for event in events)
        return said(Outcomes([Outcome("accepted", "")] * len(events)))

    taken: list[str] = []

    async def posting() -> None:
        async with Client(NOBODY, queue=tmp_path, patience_s=0) as till:
            for number in range(6):
                await till.post(sale(f"s-{number}", "c-1"))
        async with serving(small) as url, Client(url, queue=tmp_path) as till:
            assert await till.drained(SETTLED_S)

    asyncio.run(posting())
    assert taken == ["s-0", "s-1", "s-2", "s-4", "s-5"]
    assert [line["event"]["data"]["receipt_id"] for line in refused(tmp_path)] == ["s-3"]


def test_queue_that_drains_by_shares_pauses_as_after_a_first_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "random", lambda: 1.0)
    taken = [said(Outcomes([Outcome("accepted", "")])) for _ in range(3)]
    server = Recorder(*(away() for _ in range(5)), taken[0], web.Response(status=429), *taken[1:])

    async def posting() -> None:
        async with Client(NOBODY, queue=tmp_path, patience_s=0) as till:
            for number in range(3):
                await till.post(sale(f"sh-{number}", "c-1"))
        async with serving(server.answer) as url, Client(url, queue=tmp_path) as till:
            assert await till.drained(SETTLED_S)

    asyncio.run(posting())
    sizes = [len(orjson.loads(body)["events"]) for body in server.bodies]
    assert sizes == [3, 1, 1, 1, 1, 1, 2, 1, 1]
    assert server.times[7] - server.times[6] < BACKOFF_FIRST_S * 2**4  # What a sixth failure in a row would cost, and more.


def test_wrong_key_keeps_receipts_and_refuses_questions(tmp_path: Path) -> None:
    async def nobody_known(_: web.Request) -> web.StreamResponse:
        return web.Response(status=401)

    async def posting() -> None:
        async with serving(nobody_known) as url, Client(url, KEY, queue=tmp_path, patience_s=0) as till:
            assert await till.post(sale("w-1", "c-1")) == Queued(1)
            with pytest.raises(Refused):
                await till.identify("card", "c-1")
            assert not await till.drained(0.3)

    asyncio.run(posting())


def test_question_is_asked_again_while_there_is_patience_and_no_longer(tmp_path: Path) -> None:
    server = Recorder(away(), away())

    async def asking() -> None:
        async with serving(server.answer) as url, Client(url) as till:
            assert (await till.hold(b"{}")).outcome == "accepted"
            assert len(server.bodies) == 3
            server.answers = [away(**{"Retry-After": "9"})]
            with pytest.raises(Away) as told:
                await till.hold(b"{}")
            assert told.value.retry_after_s == 9
            assert len(server.bodies) == 4
        began = time.monotonic()
        async with Client(NOBODY) as till:
            with pytest.raises(Away):
                await till.post(sale("p-1", "c-1"))
        assert time.monotonic() - began < PATIENCE_S + 1

    asyncio.run(asking())


def test_gateway_that_never_answers_is_away(tmp_path: Path) -> None:
    async def silent(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(5)
        return away()

    async def asking() -> None:
        async with serving(silent) as url, Client(url, patience_s=0) as till:
            began = time.monotonic()
            with pytest.raises(Away):
                await till.identify("card", "c-1")
            assert time.monotonic() - began < PATIENCE_S

    asyncio.run(asking())


def test_key_is_brought_or_signs_each_attempt_anew() -> None:
    server = Recorder(away())
    token = parse_token(KEY)
    assert token is not None

    async def asking() -> None:
        async with serving(server.answer) as url:
            async with Client(url, KEY, signed=True) as till:
                await till.release("h/1", {"data": {"member": {"scheme": "card", "value": "Łoś"}}})
                await till.receipt("PL/1", "tills/PL-1")
            async with Client(url, KEY) as till:
                await till.hold(b"{}")

    asyncio.run(asking())
    *signed, bearer = server.requests
    assert bearer.headers["Authorization"] == f"Bearer {KEY}"
    nonces = set()
    for request, body in zip(signed, server.bodies, strict=False):
        found = parse_headers(request.headers)
        assert found is not None
        assert is_signed_by(token.secret, found, request.method, request.raw_path, body)
        assert token.secret not in str(request.headers)
        nonces.add(found.nonce)
    assert len(nonces) == len(signed) == 3
    assert signed[2].raw_path == "/v1/receipts/PL%2F1?source=tills%2FPL-1"


def test_queue_that_is_full_takes_nothing_and_says_so(tmp_path: Path) -> None:
    async def posting() -> None:
        async with Client(NOBODY, queue=tmp_path, queue_bytes_max=1_200, patience_s=0) as till:
            assert isinstance(await till.post(sale("f-1", "c-1")), Queued)
            assert isinstance(await till.post(sale("f-2", "c-1")), Queued)
            with pytest.raises(QueueFull, match="nothing was taken"):
                await till.post(sale("f-3", "c-1"))
            assert till.queued == 2
            with pytest.raises(QueueUnusable, match="another process"):
                async with Client(NOBODY, queue=tmp_path):
                    pass

    asyncio.run(posting())


def test_what_is_no_receipt_is_refused_before_it_waits(tmp_path: Path) -> None:
    async def posting() -> None:
        async with Client(NOBODY, queue=tmp_path) as till:
            wrong = {**LINES[1], "amount": -5}
            outcome = await till.post(sale("n-1", "c-1", lines=[LINES[0], wrong]))
            assert isinstance(outcome, Outcome)
            assert outcome.problem is not None
            assert outcome.problem.path == "$.data.lines[1].amount"
            assert till.queued == 0

    asyncio.run(posting())


@pytest.mark.parametrize(("key", "signed"), [("secret", False), ("", True)])
def test_key_that_is_none_is_bad_usage(key: str, signed: bool) -> None:
    async def making() -> None:
        async with Client(NOBODY, key, signed=signed):
            pass

    with pytest.raises(UsageError, match="tillstream keys create"):
        asyncio.run(making())


def test_client_loads_neither_kafka_nor_redis() -> None:
    """A till's computer is small."""
    code = "import sys, tillstream.client; print(sorted({'confluent_kafka', 'redis', 'faust', 'clickhouse_connect'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert done.stdout.strip() == "[]"
