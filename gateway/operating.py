"""What operators and machines ask of a gateway: whether it runs, whether it can answer, what it counted."""

import asyncio

from tillstream.gateway.answers import Health, Readiness
from tillstream.gateway.metrics import CONTENT_TYPE
from tillstream.gateway.routes import Answer, Call
from tillstream.gateway.runtime import Gateway
from tillstream.sinks.redis import REDIS_AWAY
from tillstream.streams.stats import is_one_alive

LOOK_S = 0.5


async def healthz(call: Call) -> Answer:
    """The process answers; nothing is said of what stands behind it."""
    return Answer(Health())


async def readyz(call: Call) -> Answer:
    """Whether Redis and Kafka answer, and replies of workers are listened for; 503 where not. A spool with room stands in for Kafka."""
    gateway = call.gateway
    (redis, worker), kafka = await asyncio.gather(redis_says(gateway), asyncio.to_thread(gateway.events.answers, LOOK_S))
    replies = gateway.inbox.listening.is_set()
    spooling = gateway.spooling
    ready = redis and (kafka or spooling.has_room) and replies
    return Answer(Readiness(ready, redis, kafka, replies, worker, spooling.records), 200 if ready else 503)


async def redis_says(gateway: Gateway) -> tuple[bool, bool]:
    """Whether Redis answers within half a second, and whether it knows of a worker that gives points."""
    try:
        async with asyncio.timeout(LOOK_S):
            await gateway.redis.ping()
            return True, await is_one_alive(gateway.redis)
    except REDIS_AWAY:
        return False, False


async def metrics(call: Call) -> Answer:
    """Counters and latencies."""
    return Answer(call.gateway.metrics.text(), content_type=CONTENT_TYPE)
