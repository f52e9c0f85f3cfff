"""Signed requests: the secret stays at the till, and what was recorded on the way can't be sent again.

    Tillstream-Key: 5f1c0e9a7b3d2461                       the key's id
    Tillstream-Timestamp: 1772901730                       Unix time, whole seconds
    Tillstream-Nonce: 6f9d...                              16 to 64 letters, digits, - or _, never used before by this key
    Tillstream-Signature: 3b0a...                          HMAC-SHA256 in hexadecimal digits

What is signed, under the secret (the third part of the key), is six lines joined by a line feed: `tillstream-1`, the method, the target as
it stands in the request line (path and query), the timestamp, the nonce, SHA-256 of the body in hexadecimal digits.
"""

import hmac
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import NamedTuple

KEY = "Tillstream-Key"
TIMESTAMP = "Tillstream-Timestamp"
NONCE = "Tillstream-Nonce"
SIGNATURE = "Tillstream-Signature"
HEADERS = (KEY, TIMESTAMP, NONCE, SIGNATURE)

VERSION = "tillstream-1"

_patterns = {
    KEY: re.compile("[0-9a-f]{16}"),
    TIMESTAMP: re.compile("[0-9]{1,12}"),
    NONCE: re.compile("[0-9A-Za-z_-]{16,64}"),
    SIGNATURE: re.compile("[0-9a-f]{64}"),
}


class Unsigned(Exception):
    """A header of a signature is missing or is not what it should be; the message names it."""


class Signed(NamedTuple):
    """The signature that came with a request."""

    key_id: str
    timestamp: int
    nonce: str
    signature: str


def parse_headers(headers: Mapping[str, str]) -> Signed | None:
    """The signature among a request's headers; None: there is none.

    Raises:
        Unsigned: there is one in part.

    >>> parse_headers({KEY: "abc"})
    Traceback (most recent call last):
    ...
    tillstream.gateway.signing.Unsigned: Tillstream-Key: not [0-9a-f]{16}
    """
    if not any(name in headers for name in HEADERS):
        return None
    for name in HEADERS:
        if not _patterns[name].fullmatch(headers.get(name, "")):
            raise Unsigned(f"{name}: {'not ' + _patterns[name].pattern if name in headers else 'is missing'}")
    return Signed(headers[KEY], int(headers[TIMESTAMP]), headers[NONCE], headers[SIGNATURE])


def signature_of(secret: str, method: str, target: str, timestamp: int, nonce: str, body: bytes) -> str:
    """What a request is to be signed with.

    >>> signature_of("secret", "POST", "/v1/receipts", 1772901730, "0123456789abcdef", b"{}")[:16]
    'fea1b44652b0b9d2'
    """
    lines = (VERSION, method, target, str(timestamp), nonce, sha256(body).hexdigest())
    return hmac.new(secret.encode(), "\n".join(lines).encode(errors="surrogateescape"), sha256).hexdigest()


def signed_headers(key_id: str, secret: str, method: str, target: str, timestamp: int, nonce: str, body: bytes) -> dict[str, str]:
    """The headers that a till adds to its request."""
    signature = signature_of(secret, method, target, timestamp, nonce, body)
    return {KEY: key_id, TIMESTAMP: str(timestamp), NONCE: nonce, SIGNATURE: signature}


def is_signed_by(secret: str, signed: Signed, method: str, target: str, body: bytes) -> bool:
    """Whether the signature is that of this request, under this secret; in the same time for every wrong one."""
    return hmac.compare_digest(signature_of(secret, method, target, signed.timestamp, signed.nonce, body), signed.signature)
