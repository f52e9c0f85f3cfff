"""Replies on their way to gateways: a sharded channel of Redis per gateway; what no posting shows is kept for a day beside it.

    tillstream:replies:<name>   channel   to the gateway of that name: lists of replies (schemas/replies.py)
    tillstream:answer:<key>     string    the last reply to an event that waits or was refused, by its natural key

Delivery: at most once. Who misses a reply finds the posting in Redis by the event's natural key, or the answer here; or sends the event
again.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from tillstream.schemas.replies import Reply, decode_replies, encode_replies, listener
from tillstream.sinks.redis import Redis

CHANNEL = "tillstream:replies:"
ANSWER = "tillstream:answer:"

ANSWER_KEPT_S = 86_400
"""A till that was told to ask later does so within the day; the dead letter stays for ever."""

SHOWN_BY_POSTING = ("accepted", "duplicate")


class Replies:
    """Sends replies, and finds those that are kept."""

    def __init__(self, client: Redis) -> None:
        self.client = client

    async def send(self, replies: Sequence[Reply]) -> None:
        """Publishes replies, one message per gateway, in one round trip."""
        by_gateway: dict[str, list[Reply]] = defaultdict(list)
        for reply in replies:
            by_gateway[listener(reply.to)].append(reply)
        pipeline = self.client.pipeline(transaction=False)
        for reply in replies:
            if reply.key and reply.status not in SHOWN_BY_POSTING:
                pipeline.set(ANSWER + reply.key, encode_replies([reply]), ex=ANSWER_KEPT_S)
        for name, some in by_gateway.items():
            pipeline.execute_command("SPUBLISH", CHANNEL + name, encode_replies(some))
        await pipeline.execute()

    async def kept(self, key: str) -> Reply | None:
        """What was answered last to an event that no posting shows."""
        raw: Any = await self.client.get(ANSWER + key)
        return None if raw is None else decode_replies(raw)[0]
