"""keys -> the table that requests are checked by: the topic is read to its end before the first request is taken, and followed after that.

While Kafka is away the table stays as it is; a key that was revoked meanwhile works until the topic can be read again.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaException

from tillstream.gateway.keys import Keys
from tillstream.gateway.vault import Vault
from tillstream.schemas.keys import Created, Revoked, encode_key
from tillstream.streams.appending import append
from tillstream.streams.following import Follower, text_key
from tillstream.streams.recovery import read_topic
from tillstream.streams.topics import KEYS

FOLLOW_EVERY_S = 1.0
"""Between revoking a key and the end of its use; a look costs microseconds."""

log = logging.getLogger("tillstream.keys")


class Keyring:
    """Keeps `keys` up to date with the topic; `kafka` is librdkafka's settings."""

    def __init__(self, kafka: Mapping[str, Any], vault: Vault) -> None:
        self.vault = vault
        self.keys = Keys(vault=vault)
        self.follower = Follower(kafka, KEYS)

    async def start(self) -> None:
        """Reads the topic to its end.

        Raises:
            KafkaException: the broker fails or is silent.
        """
        self.keys = await asyncio.to_thread(self._read)
        self._report(self.keys)

    def look(self) -> None:
        """Takes what was created and revoked since the last look; the broker is not waited for."""
        try:
            messages = self.follower.look()
        except KafkaException as error:
            # Another topic of this name, an empty one perhaps: what the old one said holds no more.
            log.error("keys_replaced error=%s", error)
            self.keys = Keys(vault=self.vault)
            return
        for message in messages:
            self.keys.put(text_key(message), message.value())
        if messages:
            self._report(self.keys)

    async def follow(self) -> None:
        """Looks again and again; ends when it is cancelled."""
        while True:
            self.look()
            await asyncio.sleep(FOLLOW_EVERY_S)

    def close(self) -> None:
        """Follows no more."""
        self.follower.close()

    def _read(self) -> Keys:
        return Keys(((text_key(message), message.value()) for message in self.follower.to_the_end()), self.vault)

    def _report(self, keys: Keys) -> None:
        for problem in keys.passed_over:
            log.error("key_passed_over %s", problem)
        keys.passed_over.clear()
        log.info("keys known=%d", len(keys.known))


def read_keys(kafka: Mapping[str, Any]) -> Keys:
    """All keys as the topic has them now."""
    return Keys((text_key(message), message.value()) for message in read_topic(kafka, KEYS, 0, 0))


def publish_key(kafka: Mapping[str, Any], data: Created | Revoked) -> None:
    """Appends the creation or the revocation of a key; acknowledged by all replicas when this returns.

    Raises:
        KafkaException: it was not.
    """
    append(kafka, KEYS, [(data.key_id, encode_key(data))])
