"""Streams of triggers over HTTP, on real servers: what comes, to whom, and that whoever comes back has each trigger once."""

import asyncio
import json
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.pipeline_harness import PARTITIONS, Stage, stage
from tests.test_gateway_security import created
from tests.triggers import Ear, Post, post, trigger, triggered
from tillstream.gateway import catching_up, feed, triggers
from tillstream.gateway.marks import NoMark, parse_mark

# aiohttp would have keys of a request be objects.
pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")

SHOP = "https://shop.example.org"



@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("streams")) as there:
        yield there


def at(address: str) -> tuple[str, int]:
    where = urlsplit(address)
    return where.hostname or "", where.port or 0


def names(events: list[dict[str, object]]) -> list[object]:
    return [event["data"]["decision_id"] for event in events]  # type: ignore[index]


async def opened(ear: Ear) -> str:
    """The id that a stream begins with."""
    first = await ear.block()
    assert first.data is None
    return first.id or ""


def test_listeners_hear_what_comes_by_offer_and_channel(here: Stage) -> None:
    async def scene() -> None:
        async with post(here) as there, there.listening() as every, there.listening("/v1/triggers/stream?offer=tea&channel=email") as some:
            await opened(every)
            await opened(some)
            await trigger(here, triggered("f1"), b"no trigger", triggered("f2", offer_id="tea"), triggered("f1"))
            await trigger(here, triggered("f3", offer_id="tea", channel="email"), account="a2")
            heard = await every.heard(3)
            assert sorted(names(heard)) == ["f1", "f2", "f3"]  # type: ignore[type-var]
            assert {(event["type"], event["data"]["member_id"]) for event in heard} == {("offer.triggered", "m1")}
            assert names(await some.heard(1)) == ["f3"]
            headers = some.answer.headers
            assert (headers["Content-Type"], headers["Cache-Control"]) == ("text/event-stream; charset=utf-8", "no-store")
            assert headers["Server"] == "tillstream"
            assert headers["X-Request-Id"]
            text = there.gateway.metrics.text().decode()
            assert 'tillstream_gateway_listeners{kind="all"} 2.0' in text

    asyncio.run(scene())


@pytest.mark.parametrize("buffer_max", [1_000, 3])
def test_listener_that_comes_back_has_each_trigger_once(here: Stage, monkeypatch: pytest.MonkeyPatch, buffer_max: int) -> None:
    """From the buffer, and, where it is too short, from Kafka; at another gateway as well."""
    monkeypatch.setattr(feed, "BUFFER_MAX", buffer_max)
    told: list[object] = []

    async def scene() -> None:
        async with post(here) as one, post(here) as other, other.listening() as keeping:  # From here on its buffer reaches.
            await opened(keeping)
            async with one.listening() as first:
                last = await opened(first)
            for turn in range(4):
                names_of = {account: f"r{buffer_max}-{turn}-{account}" for account in ("a1", "a2", "a3", "a4")}
                await asyncio.gather(*(trigger(here, triggered(name), account=account) for account, name in names_of.items()))
                there = one if turn % 2 else other
                async with there.listening(last_id=last) as ear:
                    told.extend(names(await ear.heard(3)))  # One of four stays for the next to hear.
                    last = ear.last_id
            async with one.listening(f"/v1/triggers/stream?after={last}") as ear:
                told.extend(names(await ear.heard(4)))

    asyncio.run(scene())
    assert sorted(map(str, told)) == sorted(f"r{buffer_max}-{turn}-{account}" for turn in range(4) for account in ("a1", "a2", "a3", "a4"))


def test_listener_that_was_away_too_long_is_told_of_the_gap(here: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "BUFFER_MAX", 2)
    monkeypatch.setattr(catching_up, "READ_BACK_MAX", 5)

    async def scene() -> None:
        async with post(here) as there, there.listening() as ear:
            before = await opened(ear)
            await trigger(here, *(triggered(f"g{n}") for n in range(9)))
            await ear.heard(9)
            for last_id in (before, ".".join(["99999999"] * PARTITIONS)):
                async with there.listening(last_id=last_id) as back:
                    assert (await back.block()).event == "gap"
                    assert names(await back.heard(2)) == ["g7", "g8"]

    asyncio.run(scene())


def test_quiet_stream_has_heartbeats_that_carry_it_past_what_it_did_not_want(here: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triggers, "HEARTBEAT_S", 0.2)

    async def scene() -> None:
        async with post(here) as there, there.listening() as every, there.listening("/v1/triggers/stream?offer=none") as ear:
            before = await opened(ear)
            await trigger(here, triggered("h1"))
            await every.heard(1)
            beats = [await ear.block() for _ in range(3)]
            assert [beat.data for beat in beats] == [None] * 3
            assert beats[-1].id == every.last_id != before

    asyncio.run(scene())


def test_page_gets_its_visitors_offers_and_nothing_of_the_member(here: Stage) -> None:
    async def scene() -> None:
        async with post(here, gateway_origins=SHOP) as there:
            async with there.listening("/v1/triggers/page?visitor=v1", Origin=SHOP) as ear:
                await opened(ear)
                others = [triggered("p1", visitor_id="v2"), triggered("p2"), triggered("p3", visitor_id="v1", channel="email")]
                await trigger(here, *others, triggered("p4", visitor_id="v1", lasts_s=-1), triggered("p5", visitor_id="v1", sku=["59*"]))
                (shown,) = await ear.heard(1)
                assert set(shown) == {"decision_id", "offer_id", "title", "worth", "expires_at", "sku"}
                assert (shown["decision_id"], shown["worth"], shown["sku"]) == ("p5", {"points": 50}, ["59*"])
                assert ear.answer.headers["Access-Control-Allow-Origin"] == SHOP
            async with there.listening("/v1/triggers/page?visitor=v1", Origin="https://other.example.org") as refused:
                assert "Access-Control-Allow-Origin" not in refused.answer.headers

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("path", "path_told"),
    [
        ("/v1/triggers/page", "$.visitor"),
        (f"/v1/triggers/page?visitor={'v' * 257}", "$.visitor"),
        ("/v1/triggers/stream?after=1.2", "$.Last-Event-ID"),
        ("/v1/triggers/stream?after=x", "$.Last-Event-ID"),
    ],
)
def test_request_that_is_none_is_a_problem(here: Stage, path: str, path_told: str) -> None:
    async def scene() -> None:
        async with post(here) as there, there.session.get(f"{there.address}{path}") as answer:
            assert (answer.status, (await answer.json())["path"]) == (422, path_told)

    asyncio.run(scene())


def test_streams_are_bounded_by_page_visitor_and_in_all(here: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "VISITOR_MAX", 2)
    monkeypatch.setattr(feed, "LISTENERS_MAX", 1)

    async def refused(there: Post, path: str) -> str:
        async with there.session.get(f"{there.address}{path}") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            return str((await answer.json())["detail"])

    async def scene() -> None:
        page = "/v1/triggers/page?visitor="
        async with post(here, gateway_pages_max=3) as there, there.listening(f"{page}v1") as one, there.listening(f"{page}v1") as two:
            await opened(one)
            await opened(two)
            assert "this visitor" in await refused(there, f"{page}v1")
            async with there.listening(f"{page}v2") as three:
                await opened(three)
                assert "gateway_pages_max" in await refused(there, f"{page}v3")
            async with there.listening() as every:
                await opened(every)
                assert "all triggers" in await refused(there, "/v1/triggers/stream")

    asyncio.run(scene())


def test_listener_that_does_not_read_is_cut_off_and_others_go_on(here: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "QUEUE_MAX", 20)

    async def scene() -> None:
        async with post(here) as there, there.listening() as reading:
            await opened(reading)
            with socket.socket() as deaf:
                deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
                deaf.connect(at(there.address))
                deaf.send(b"GET /v1/triggers/stream HTTP/1.1\r\nHost: x\r\n\r\n")
                for n in range(60):  # At most sixty megabytes: more than sockets hold.
                    await trigger(here, *(triggered(f"s{n}-{m}", sku=["x" * 250] * 200) for m in range(18)))
                    await reading.heard(18)
                    if b'streams_total{event="cut_off"} 1.0' in there.gateway.metrics.text():
                        break
                else:
                    pytest.fail("the listener that does not read was never cut off")

    asyncio.run(scene())


def test_streams_need_keys_and_end_with_them(here: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triggers, "HEARTBEAT_S", 0.2)
    tokens = {scope: created(here, "--scope", scope) for scope in ("clicks", "campaigns")}

    async def status(there: Post, path: str, token: str | None) -> int:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with there.session.get(f"{there.address}{path}", headers=headers) as answer:
            return answer.status

    async def scene() -> None:
        async with post(here, gateway_auth=True) as there:
            assert await status(there, "/v1/triggers/stream", None) == 401
            assert await status(there, "/v1/triggers/stream", tokens["clicks"]) == 403
            assert await status(there, "/v1/triggers/page?visitor=v", tokens["campaigns"]) == 403
            assert await status(there, f"/v1/triggers/stream?key={tokens['campaigns']}", None) == 401
            async with there.listening(f"/v1/triggers/page?visitor=v&key={tokens['clicks']}") as page:
                await opened(page)
                async with there.listening(Authorization=f"Bearer {tokens['campaigns']}") as ear:
                    await opened(ear)
                    key = next(key for key in there.gateway.keyring.keys.known.values() if key.scope == "campaigns")
                    there.gateway.keyring.keys.put(key.key_id, None)
                    with pytest.raises(EOFError):
                        await ear.heard(1)
                await page.block()

    asyncio.run(scene())


def test_gateway_that_ends_ends_its_streams_at_once(here: Stage) -> None:
    async def scene() -> None:
        async with post(here) as there, there.listening() as ear:
            await opened(ear)
            there.gateway.feed.end_all()
            with pytest.raises(EOFError):
                await ear.block()
            assert not there.gateway.feed.everybody

    asyncio.run(scene())


def test_mark_of_another_topic_is_none() -> None:
    assert parse_mark("1.2.3", 3) == (1, 2, 3)
    for text in ("", "1", "1.2.3.4", "1.2.x", "1..3", "-1.2.3", json.dumps([1, 2, 3]), "9" * 19 + ".9.9", "1.2.3\n"):
        with pytest.raises(NoMark):
            parse_mark(text, 3)
