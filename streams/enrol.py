"""members -> Redis: identities lead to their members. Enrolments may also arrive on pos.receipts; `identify` passes them on to here.

Delivery: at least once; repeating an enrolment changes nothing.
"""

from collections.abc import Sequence

from confluent_kafka import Message

from tillstream.kernels.identities import identity_hash
from tillstream.schemas.events import EnrolledEvent, IdentityAddedEvent, Malformed, decode
from tillstream.sinks.directory import Directory
from tillstream.sinks.writer import Record, Writer
from tillstream.streams.identify import deadletter


class Enrol:
    """Keeps the identity index."""

    def __init__(self, directory: Directory, writer: Writer, identity_key: str) -> None:
        self.directory = directory
        self.writer = writer
        self.identity_key = identity_key

    async def enrol(self, messages: Sequence[Message]) -> None:
        """Takes one batch of member events; what is none goes to `deadletter`."""
        members: dict[str, str] = {}
        letters: list[Record] = []
        for message in messages:
            try:
                members |= identities_of(message.value() or b"", self.identity_key)
            except Malformed as problem:
                letters.append(deadletter(problem, message))
        await self.directory.enrol(members)
        if letters:
            await self.writer.append(letters)
        if messages:
            await self.directory.note_members(messages[-1].offset() or 0)


def identities_of(raw: bytes, identity_key: str) -> dict[str, str]:
    """What a member event says of identities: from their hashes to the member id.

    Raises:
        Malformed: it is no member event.
    """
    event = decode(raw)
    if not isinstance(event, EnrolledEvent | IdentityAddedEvent):
        raise Malformed("misplaced", "$.type", "only member events belong on the topic `members`")
    identities = event.data.identities if isinstance(event, EnrolledEvent) else [event.data.identity]
    return {identity_hash(identity, identity_key.encode()): event.data.member_id for identity in identities}
