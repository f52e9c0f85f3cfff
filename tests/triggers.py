"""Triggers for tests: the events as a worker appends them, and whoever listens to them at a gateway."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import aiohttp
from aiohttp import web
from msgspec import structs

from tests.pipeline_harness import Stage
from tillstream.config import load_seed
from tillstream.gateway.app import GATEWAY, create_app
from tillstream.gateway.runtime import Gateway
from tillstream.serving import gateway_settings
from tillstream.streams.topics import TRIGGERS

TIMEOUT_S = 20.0


def triggered(name: str, *, lasts_s: float = 3_600, **data: Any) -> dict[str, Any]:
    """An `offer.triggered`, whose decision is called `name`."""
    now = datetime.now(UTC)
    own = {
        "decision_id": name, "offer_id": "cheese", "title": "Cheese for two", "member_id": "m1", "account_id": "a1", "channel": "page",
        "worth": {"points": 50}, "why": "looked at dairy/cheese twice", "expires_at": (now + timedelta(seconds=lasts_s)).isoformat(),
    }  # fmt: skip
    envelope = {"specversion": "1.0", "id": name, "source": "tillstream/offers", "type": "offer.triggered", "time": now.isoformat()}
    return {**envelope, "data": {**own, **data}}


async def trigger(here: Stage, *events: dict[str, Any] | bytes, account: str = "a1") -> None:
    """Appends triggers, those of one account in one partition; acknowledged on return."""
    await asyncio.to_thread(here.send, events, TRIGGERS, account)


class Block(NamedTuple):
    """One block of a stream: its id, the name of its event, its data."""

    id: str | None
    event: str | None
    data: Any


class Ear:
    """A stream that is open."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer
        self.last_id = ""

    async def block(self) -> Block:
        """The next block; raises EOFError at the stream's end."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(TIMEOUT_S):
            while (line := await self.answer.content.readline()) != b"\n":
                if not line:
                    raise EOFError
                name, _, value = line.decode().rstrip("\n").partition(": ")
                fields[name] = value
        self.last_id = fields.get("id", self.last_id)
        return Block(fields.get("id"), fields.get("event"), json.loads(fields["data"]) if "data" in fields else None)

    async def heard(self, count: int) -> list[dict[str, Any]]:
        """The next so many triggers."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            block = await self.block()
            if block.data is not None and block.event is None:
                found.append(block.data)
        return found


class Post:
    """A gateway in this process, and listeners at it."""

    def __init__(self, gateway: Gateway, address: str, session: aiohttp.ClientSession) -> None:
        self.gateway = gateway
        self.address = address
        self.session = session

    @asynccontextmanager
    async def listening(self, path: str = "/v1/triggers/stream", last_id: str = "", **headers: str) -> AsyncIterator[Ear]:
        """A stream whose beginning has come."""
        own = {"Last-Event-ID": last_id} if last_id else {}
        async with self.session.get(f"{self.address}{path}", headers={**own, **headers}) as answer:
            assert answer.status == 200, await answer.text()
            yield Ear(answer)


@asynccontextmanager
async def post(here: Stage, **settings: Any) -> AsyncIterator[Post]:
    """A gateway on the stage's servers; `settings` are its own."""
    gateway = Gateway(gateway_settings(structs.replace(here.config, **settings)), load_seed(here.config))
    app = create_app(gateway)
    assert app[GATEWAY] is gateway
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=5)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None), read_bufsize=1 << 20) as session:
            yield Post(gateway, f"http://127.0.0.1:{runner.addresses[0][1]}", session)
    finally:
        await runner.cleanup()
