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
        self.identity_key = identity_key.encode()

    async def enrol(self, messages: Sequence[Message]) -> None:
        """Takes one batch of member events; what is none goes to `deadletter`."""
        members: dict[str, str] = {}
        letters: list[Record] = []
        for message in messages:
            try:
                event = decode(message.value() or b"")
                if not isinstance(event, EnrolledEvent | IdentityAddedEvent):
                    raise Malformed("misplaced", "$.type", "only member events belong on the topic `members`")
            except Malformed as problem:
                letters.append(deadletter(problem, message))
                continue
            identities = event.data.identities if isinstance(event, EnrolledEvent) else [event.data.identity]
            members |= {identity_hash(identity, self.identity_key): event.data.member_id for identity in identities}
        await self.directory.enrol(members)
        if letters:
            await self.writer.append(letters)
