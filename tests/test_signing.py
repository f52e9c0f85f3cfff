"""Signed requests: whatever is changed on the way, the signature is another's; what was sent once is not taken twice."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.redis_servers import RedisServer, redis_server_fixture
from tillstream.embedded.process import free_port
from tillstream.gateway import nonces as nonces_module
from tillstream.gateway.nonces import NONCE_KEY, Nonces
from tillstream.gateway.signing import HEADERS, KEY, NONCE, SIGNATURE, TIMESTAMP, Unsigned, is_signed_by, parse_headers, signed_headers
from tillstream.sinks.redis import connect

SECRET = "nb2hi4dthixs653xo4xg64tborygk3tf"
KEY_ID = "5f1c0e9a7b3d2461"
PARTS: tuple[Any, ...] = ("POST", "/v1/receipts?wait=1", 1772901730, "0123456789abcdef", b'{"a": 1}')

redis_server = redis_server_fixture(kinds=("valkey", "cluster"))


def test_signature_holds_for_the_request_that_was_signed() -> None:
    signed = parse_headers(signed_headers(KEY_ID, SECRET, *PARTS))
    assert signed is not None
    method, target, timestamp, nonce, body = PARTS
    assert (signed.key_id, signed.timestamp, signed.nonce) == (KEY_ID, timestamp, nonce)
    assert is_signed_by(SECRET, signed, method, target, body)
    assert not is_signed_by(SECRET + "a", signed, method, target, body)


TEXT = st.text(st.characters(codec="ascii", exclude_characters="\n"), max_size=20)


@given(place=st.integers(0, 4), text=TEXT, number=st.integers(0, 10**9))
def test_signature_does_not_hold_where_any_part_is_another(place: int, text: str, number: int) -> None:
    signed = parse_headers(signed_headers(KEY_ID, SECRET, *PARTS))
    assert signed is not None
    changed = list(PARTS)
    changed[place] = number if place == 2 else text.encode() if place == 4 else text
    if changed[place] == PARTS[place]:
        return
    method, target, timestamp, nonce, body = changed
    assert not is_signed_by(SECRET, signed._replace(timestamp=timestamp, nonce=nonce), method, target, body)


def test_headers_in_part_or_misshapen_are_named() -> None:
    whole = signed_headers(KEY_ID, SECRET, *PARTS)
    assert parse_headers({}) is None
    assert parse_headers({"Authorization": "Bearer x"}) is None
    for name in HEADERS:
        with pytest.raises(Unsigned, match=f"{name}: is missing"):
            parse_headers({other: value for other, value in whole.items() if other != name})
        with pytest.raises(Unsigned, match=f"{name}: not "):
            parse_headers({**whole, name: whole[name] + "!"})
    for name, value in ((TIMESTAMP, "-1"), (TIMESTAMP, "1e3"), (NONCE, "short"), (SIGNATURE, "0" * 63), (KEY, KEY_ID.upper())):
        with pytest.raises(Unsigned):
            parse_headers({**whole, name: value})


def running(url: str, work: Callable[[Any], Awaitable[None]]) -> None:
    async def connected() -> None:
        client = connect(url)
        try:
            await work(client)
        finally:
            await client.aclose()

    asyncio.run(connected())


def test_nonce_counts_once_for_all_gateways_and_fades(redis_server: RedisServer) -> None:
    redis_server.flush()

    async def work(client: Any) -> None:
        one, two = Nonces(client, 300), Nonces(client, 300)
        assert await one.is_first(KEY_ID, "n" * 16, 0.0)
        assert not await one.is_first(KEY_ID, "n" * 16, 1.0)
        assert not await two.is_first(KEY_ID, "n" * 16, 1.0)
        assert await two.is_first("a" * 16, "n" * 16, 1.0)
        assert 590 < await client.ttl(f"{NONCE_KEY}{KEY_ID}:{'n' * 16}") <= 600

    running(redis_server.url, work)


def test_without_redis_a_nonce_counts_once_here_and_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nonces_module, "HERE_MAX", 10)

    async def work(client: Any) -> None:
        nonces = Nonces(client, 300)
        assert await nonces.is_first(KEY_ID, "n" * 16, 0.0)
        assert not await nonces.is_first(KEY_ID, "n" * 16, 599.0)
        assert await nonces.is_first(KEY_ID, "n" * 16, 600.0)
        for number in range(30):
            assert await nonces.is_first(KEY_ID, f"{number:016}", 601.0)
        assert len(nonces.here) == 10

    running(f"redis://127.0.0.1:{free_port()}/0", work)
