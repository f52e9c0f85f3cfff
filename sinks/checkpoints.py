"""Models in Redis: the learner's checkpoint, and the champions that decisions are made by. Bytes in, bytes out (models/checkpoints.py).

    {l}:learner   hash     offset: of `outcomes`, up to which it has learned; checkpoint: the whole learner, signed; written_ms: when
    {l}:models    hash     offer id -> its champion, signed

Delivery: both are written in one script, or neither, so a worker that is killed leaves the checkpoint before or the one after. Idempotency
key: the offset. One that is not ahead of what is there changes nothing: a learner that was taken for dead can't take back what its
successor learned, and at one offset both know the same.
"""

from collections.abc import Mapping
from typing import NamedTuple

from tillstream.sinks.redis import Redis

LEARNER, MODELS = "{l}:learner", "{l}:models"

_SAVE = """
local there = redis.call('HGET', KEYS[1], 'offset')
if there and tonumber(there) >= tonumber(ARGV[1]) then return 0 end
local now = redis.call('TIME')
local written_ms = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('HSET', KEYS[1], 'offset', ARGV[1], 'checkpoint', ARGV[2], 'written_ms', string.format('%d', written_ms))
redis.call('DEL', KEYS[2])
for place = 3, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[place], ARGV[place + 1]) end
return 1
"""

_NOW = "return redis.call('TIME')"
"""In a script with a key, so that a cluster answers with the clock that wrote the checkpoint."""


class Stored(NamedTuple):
    """A checkpoint, and the offset of the last record in it."""

    offset: int
    checkpoint: bytes


class CheckpointStore:
    """Where the learner keeps what it knows."""

    def __init__(self, client: Redis) -> None:
        self.client = client

    async def save(self, offset: int, checkpoint: bytes, champions: Mapping[str, bytes]) -> bool:
        """Takes the place of what is there, champions included; False where that is as far, or further."""
        arguments = [offset, checkpoint, *(part for pair in champions.items() for part in pair)]
        return bool(await self.client.execute_command("EVAL", _SAVE, 2, LEARNER, MODELS, *arguments))

    async def load(self) -> Stored | None:
        """The latest checkpoint; None where there is none."""
        offset, checkpoint = await self.client.hmget(LEARNER, ["offset", "checkpoint"])
        return None if offset is None else Stored(int(offset), checkpoint)

    async def age_s(self) -> float | None:
        """How long ago the checkpoint was written, seconds, by the clock of Redis; None where there is none."""
        written_ms = await self.client.hget(LEARNER, "written_ms")
        if written_ms is None:
            return None
        seconds, micros = await self.client.execute_command("EVAL", _NOW, 1, LEARNER)
        return max(0.0, int(seconds) + int(micros) / 1e6 - int(written_ms) / 1e3)

    async def offset(self) -> int | None:
        """How far the champions have learned: those who decide load them anew when it has moved."""
        offset = await self.client.hget(LEARNER, "offset")
        return None if offset is None else int(offset)

    async def champions(self) -> dict[str, bytes]:
        """The champions, by offer id."""
        found = await self.client.hgetall(MODELS)
        return {offer_id.decode(): raw for offer_id, raw in found.items()}

    async def forget(self) -> None:
        """Drops all of it: the next learner begins at the topic's first record."""
        await self.client.delete(LEARNER, MODELS)
