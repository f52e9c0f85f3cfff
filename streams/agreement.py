"""Whether a trigger may still go to its member, at the moment of an attempt: who was erased, or agrees no more, gets nothing that waited.

Asked is the registry in Redis, which knows of a withdrawal before any answer to it is given. Where it cannot say, nothing goes out until it
can.
"""

from collections.abc import Sequence
from typing import Literal

from tillstream.kernels.facts import Fact
from tillstream.kernels.registry import consents_in
from tillstream.schemas.offers import Triggered
from tillstream.sinks.directory import Directory
from tillstream.sinks.redis import REDIS_AWAY

Standing = Literal["agrees", "withdrawn", "unknown"]
"""`unknown`: Redis does not answer, or has been emptied and not restored yet."""

FALLBACK = ("marketing",)
"""What a trigger that names no purposes is taken to ask for: those of before they were told."""


class Agreement:
    """Asks for members, one at a time."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory

    async def of(self, trigger: Triggered) -> Standing:
        """Whether the trigger's member agrees now to what it was decided by."""
        try:
            if await self.directory.members_offset() is None:
                return "unknown"
            facts = await self.directory.registry.facts("members", [trigger.member_id])
        except REDIS_AWAY:
            return "unknown"
        return standing(facts.get(trigger.member_id, []), trigger.purposes or FALLBACK)


def standing(facts: Sequence[Fact], purposes: Sequence[str]) -> Standing:
    """By a member's facts, in order. Nobody is decided on without having enrolled, so of whom nothing is known nothing was withdrawn.

    >>> standing([Fact("1", "enrolled", {"consents": {"marketing": True}}), Fact("2", "consents", {"marketing": False})], ["marketing"])
    'withdrawn'
    """
    consents = consents_in(facts)
    return "agrees" if not facts or all(consents.get(purpose) is True for purpose in purposes) else "withdrawn"
