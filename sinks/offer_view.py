"""Decisions on offers in Redis as a view of the topic `outcomes`: put back where they are missing, and forgotten with their member.

    tillstream:offers       string  "<offset> <token>": decisions up to this offset of `outcomes` are in Redis; the token is of this filling
    {d7}:made:<member>      hash    of a member that was erased for a minute nothing but the mark `-`: no decision is taken over it

The keys of decisions: offers.py. Delivery: at least once; repeating changes nothing. Idempotency keys: the event that led to a decision,
and, of budgets, the number of triggers on the topic, below which none is left.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tillstream.kernels.offering import Made
from tillstream.schemas.program_offer_mistakes import KEPT_DAYS_MAX
from tillstream.sinks.carts import receipts_key
from tillstream.sinks.offers import BUDGETS, DAY_S, FILLED, MARK_S, TOOK, TOOK_S, WHOSE, decode_made, encode_made, member_keys
from tillstream.sinks.redis import Asks, Redis


class Filled(NamedTuple):
    """The last offset of `outcomes` whose decisions are in Redis, and what tells this filling of Redis from the next one."""

    offset: int
    token: str


class Restored(NamedTuple):
    """A decision of a member, by the key of the event that led to it."""

    member: str
    event: str
    made: Made


class OfferView(Asks):
    """Fills Redis with decisions, and forgets those of a member."""

    def __init__(self, client: Redis) -> None:
        self.client = client

    async def filled(self) -> Filled | None:
        """How far Redis was filled; None: never, or it has been emptied."""
        parts = (await self.client.get(FILLED) or b"").decode().split()
        return Filled(int(parts[0]), parts[1]) if len(parts) == 2 else None

    async def note_filled(self, offset: int, before: Filled | None) -> str | None:
        """Notes that decisions up to `offset` are there; the token, None: Redis was emptied since `before`."""
        if before is None:
            await self.client.set(FILLED, f"{offset} {secrets.token_hex(8)}", nx=True)
        elif not await self.client.set(FILLED, f"{offset} {before.token}", xx=True):
            return None
        now = await self.filled()
        return None if now is None else now.token

    async def restore(self, decisions: Sequence[Restored], took: Iterable[str] = ()) -> int:
        """Puts decisions where they are missing; how many were. Of those in `took` (ids), which may be judged again, budgets know it."""
        commands: list[tuple[Any, ...]] = []
        for member, event, made in decisions:
            place = member_keys(member)[0]
            commands += [
                ("HSETNX", place, event, encode_made(made)),
                ("EXPIRE", place, KEPT_DAYS_MAX * DAY_S),
                ("SET", WHOSE + made.decision_id, member, "PX", max(made.answer_ms, made.ends_ms) - made.at_ms),
            ]
        missing: int = sum((await self._all(commands))[::3])
        await self._all(("SET", TOOK + decision, 1, "EX", TOOK_S) for decision in took)
        return missing

    async def decisions(self, asked: Iterable[tuple[str, str]]) -> list[str | None]:
        """The id of the decision that Redis has of (member, event's key), in the same order."""
        found = await self._all([("HGET", member_keys(member)[0], event) for member, event in asked])
        return [None if raw is None else decode_made(raw).decision_id for raw in found]

    async def restore_budgets(self, triggered: Mapping[str, int]) -> None:
        """Makes what budgets took no less than `triggered`, by offer id."""
        if triggered:
            await self.client.fcall("tillstream_restore_offers", 1, BUDGETS, *(part for pair in triggered.items() for part in pair))

    async def spent(self) -> dict[str, int]:
        """How many times each offer with a budget was triggered."""
        return {name.decode(): int(count) for name, count in (await self.client.hgetall(BUDGETS)).items()}

    async def forget(self, members: Iterable[str]) -> None:
        """Forgets what erased members were offered, and when they bought last.

        A batch that is being judged meanwhile takes no decision on them (`MARK`).
        """
        names = list(members)
        answers = await self._all(("FCALL", "tillstream_forget_offers", 3, *member_keys(name), MARK_S) for name in names)
        decisions = [decode_made(raw).decision_id for held in answers for raw in held]
        await self._all(("DEL", WHOSE + decision) for decision in decisions)
        await self._all(("DEL", receipts_key(name)) for name in names)
