"""Replies of workers, as they come in: one sharded channel of Redis under this gateway's name (sinks/replies.py).

Everything that knows by which way replies come is here and in sinks/replies.py: `expect`, then `reply`.
"""

import asyncio
import logging
import secrets
from typing import Any

import msgspec
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import RedisClusterException, RedisError

from tillstream.schemas.replies import Reply, decode_replies
from tillstream.sinks.redis import Redis
from tillstream.sinks.replies import CHANNEL

LISTEN_S = 1.0
"""One look at the channel; after it the loop may end."""

AGAIN_S = 0.1
"""Between two attempts to listen: a till whose reply is missed meanwhile gets a 202."""

log = logging.getLogger("tillstream.gateway")


class Inbox:
    """Hands each reply to the request that waits for it."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.name = secrets.token_hex(6)
        self.number = 0
        self.waiting: dict[str, asyncio.Future[Reply]] = {}
        self.listening = asyncio.Event()
        self.stopped = False

    def expect(self) -> str:
        """A new `replyto` for one event; `reply` must follow."""
        self.number += 1
        to = f"{self.name}.{self.number}"
        self.waiting[to] = asyncio.get_running_loop().create_future()
        return to

    async def reply(self, to: str, wait_s: float) -> Reply | None:
        """The reply to an event that was sent; None: not within `wait_s` seconds."""
        try:
            async with asyncio.timeout(wait_s):
                return await self.waiting[to]
        except TimeoutError:
            return None
        finally:
            self.forget(to)

    def forget(self, to: str) -> None:
        """Nobody waits for it any more."""
        self.waiting.pop(to, None)

    def stop(self) -> None:
        """Ends `run`, within `LISTEN_S` where the client loses a cancellation, as it does while it connects."""
        self.stopped = True

    async def run(self) -> None:
        """Listens until it is stopped, over a new connection whenever one breaks."""
        while not self.stopped:
            try:
                await self._listen()
            except (RedisError, RedisClusterException, OSError) as error:
                log.warning("not_listening error=%r", error)
            self.listening.clear()
            await asyncio.sleep(AGAIN_S)

    async def _listen(self) -> None:
        is_cluster = isinstance(self.client, RedisCluster)
        if is_cluster:
            await self.client.initialize()  # Else it does not know yet which server has the channel.
        pubsub: Any = self.client.pubsub()
        look = pubsub.get_sharded_message if is_cluster else pubsub.get_message
        try:
            await pubsub.ssubscribe(CHANNEL + self.name)
            while not self.stopped:
                message = await look(timeout=LISTEN_S)
                kind = None if message is None else message["type"]
                if kind == "smessage":
                    self._take(message["data"])
                elif kind == "ssubscribe":
                    self.listening.set()
                elif kind == "sunsubscribe":  # Its slot has moved to another server.
                    return
        finally:
            await pubsub.aclose()

    def _take(self, raw: bytes) -> None:
        try:
            replies = decode_replies(raw)
        except msgspec.MsgspecError as error:
            log.error("no_reply error=%s", error)
            return
        for reply in replies:
            waiting = self.waiting.get(reply.to)
            if waiting is not None and not waiting.done():
                waiting.set_result(reply)
