"""Replies on their way from a worker to gateways, on real servers: single and Cluster."""

import asyncio
from contextlib import suppress

import pytest

from tests.redis_servers import RedisServer, redis_server
from tillstream.gateway.inbox import Inbox
from tillstream.schemas.events import Malformed
from tillstream.schemas.replies import NOTHING, Reply, decode_replies, encode_replies, listener, refused, reply_to_in
from tillstream.sinks.redis import CLUSTER_SCHEME, Redis, connect
from tillstream.sinks.replies import ANSWER, ANSWER_KEPT_S, Replies

__all__ = ["redis_server"]

WAIT_S = 5.0


def client_of(server: RedisServer) -> Redis:
    return connect(server.url.replace("redis://", CLUSTER_SCHEME) if server.cluster else server.url, WAIT_S)


async def listening(inbox: Inbox) -> "asyncio.Task[None]":
    task = asyncio.create_task(inbox.run())
    await asyncio.wait_for(inbox.listening.wait(), WAIT_S)
    return task


async def ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def test_each_gateway_gets_its_own_replies_and_each_request_its_one(redis_server: RedisServer) -> None:
    async def run() -> None:
        client = client_of(redis_server)
        inboxes = [Inbox(client), Inbox(client)]
        tasks = [await listening(inbox) for inbox in inboxes]
        asked = [(inbox, inbox.expect()) for inbox in inboxes for _ in range(3)]
        unheard = Reply("nobody.1", "accepted", "f" * 32)
        await Replies(client).send([*(Reply(to, "accepted", f"{place:032}") for place, (_, to) in enumerate(asked)), unheard])
        found = [await inbox.reply(to, WAIT_S) for inbox, to in asked]
        assert [reply and (reply.to, reply.key) for reply in found] == [(to, f"{place:032}") for place, (_, to) in enumerate(asked)]
        assert [inbox.waiting for inbox in inboxes] == [{}, {}]
        for task in tasks:
            await ended(task)
        await client.aclose()

    asyncio.run(run())


def test_what_no_posting_shows_is_kept_for_a_day(redis_server: RedisServer) -> None:
    async def run() -> None:
        client = client_of(redis_server)
        replies = Replies(client)
        problem = Malformed("currency", "$.data.currency", "EUR is not the program's PLN")
        await replies.send([refused("g.1", "a" * 32, problem), Reply("g.2", "waiting", "b" * 32), Reply("g.3", "accepted", "c" * 32)])
        kept = await replies.kept("a" * 32)
        assert kept is not None
        assert str(kept.problem) == str(problem)
        waiting = await replies.kept("b" * 32)
        assert waiting is not None
        assert (waiting.status, waiting.problem) == ("waiting", None)
        assert await replies.kept("c" * 32) is None
        assert 0 < await client.ttl(ANSWER + "a" * 32) <= ANSWER_KEPT_S
        await client.aclose()

    asyncio.run(run())


def test_reply_that_does_not_come_in_time_is_none_and_a_late_one_disturbs_nobody(redis_server: RedisServer) -> None:
    async def run() -> None:
        client = client_of(redis_server)
        inbox = Inbox(client)
        task = await listening(inbox)
        to = inbox.expect()
        assert await inbox.reply(to, 0.01) is None
        await Replies(client).send([Reply(to, "accepted")])
        again = inbox.expect()
        await client.execute_command("SPUBLISH", f"tillstream:replies:{inbox.name}", b"no reply")
        await Replies(client).send([Reply(again, "duplicate")])
        reply = await inbox.reply(again, WAIT_S)
        assert reply is not None
        assert reply.status == "duplicate"
        await ended(task)
        await client.aclose()

    asyncio.run(run())


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"replyto": 5}', b"[" * 100_000])
def test_bytes_that_are_no_event_may_ask_for_nothing(raw: bytes) -> None:
    assert reply_to_in(raw) is None


def test_reply_keeps_the_record_as_it_is() -> None:
    assert reply_to_in(b'{"replyto": "g.1", "data": 5}') == "g.1"
    assert listener("g.1") == "g"
    (reply,) = decode_replies(b'[{"to":"g.1","status":"accepted","record":{"a": [1,  2]}}]')
    assert bytes(reply.record) == b'{"a": [1,  2]}'
    assert decode_replies(encode_replies([Reply("g.1", "accepted")]))[0].record == NOTHING
