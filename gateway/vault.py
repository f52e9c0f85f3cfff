"""The secrets of signed keys, encrypted: who signs and who checks need the same secret, so no hash will do.

AES-256-GCM under a key that is made of the installation's `identity_key`, with the key's id as associated data: what was kept of one key
opens under no other id. Whoever reads the topic without `identity_key` learns nothing.
"""

import base64
import secrets
from hashlib import blake2b

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PURPOSE = b"signed keys"
"""BLAKE2b's personalization: the same `identity_key` gives other hashes to identities."""

NONCE_BYTES = 12


class VaultError(Exception):
    """What was kept does not open: it is another `identity_key`, or another key's."""


class Vault:
    """Encrypts and decrypts under `identity_key`, of 16 to 64 bytes."""

    def __init__(self, identity_key: bytes) -> None:
        self.cipher = AESGCM(blake2b(key=identity_key, person=PURPOSE, digest_size=32).digest())

    def close(self, key_id: str, secret: str) -> str:
        """What is kept of a signed key's secret."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return base64.b64encode(nonce + self.cipher.encrypt(nonce, secret.encode(), key_id.encode())).decode()

    def open(self, key_id: str, kept: str) -> str:
        """The secret.

        Raises:
            VaultError: it was not kept under this `identity_key` for this id.
        """
        try:
            raw = base64.b64decode(kept, validate=True)
            return self.cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], key_id.encode()).decode()
        except (InvalidTag, ValueError):
            raise VaultError(f"key {key_id}: kept under another identity_key") from None
