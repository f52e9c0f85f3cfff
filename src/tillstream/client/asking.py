"""One question to the gateway: signed or with its key, asked again while there is patience, and what comes back, told apart.

Out: an answer below 400; `Refused`: asking the same again is of no use; `Away`: it may be later. What was sent may have arrived all the
same: the natural key tells.
"""

import asyncio
import io
import random
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from ssl import SSLContext
from typing import NamedTuple

import aiohttp
import msgspec
from yarl import URL

from tillstream.client.patience import ANSWER_S, CONNECT_S, pause_s, retry_after_s
from tillstream.errors import TillstreamError, UsageError
from tillstream.gateway.keys import Token, parse_token
from tillstream.gateway.problems import Problem, problem
from tillstream.gateway.signing import signed_headers

CONNECTIONS_MAX = 64
"""Of one client at once; a till has one or two."""

JSON = {"Content-Type": "application/json"}

WHOLE_BYTES_MAX = 64 * 1024
"""What is handed to a connection at once."""

LATER = {408, 425, 429}
"""Of the statuses below 500 those that are no refusal."""

WRONG = 400
FAILED = 500

_problem = msgspec.json.Decoder(Problem)


class Away(TillstreamError):
    """Nobody answered in time, or the gateway cannot now; `retry_after_s` is when it wants to be asked again, 0 where it does not say."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Refused(TillstreamError):
    """The gateway will not; `problem` says why, by `code` and, where a field is wrong, by `path`."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.code}: {problem.detail}" + (f" (at {problem.path})" if problem.path else ""))
        self.problem = problem


class Answered(NamedTuple):
    """An answer below 400."""

    status: int
    body: bytes


class Asking:
    """Asks one gateway. `key`: `ts_<id>_<secret>`, '' where the gateway wants none; `signed`: the secret signs and is never sent.

    Raises:
        UsageError: `key` is none, or is missing where requests are to be signed.
    """

    def __init__(self, url: str, key: str, *, signed: bool, tls: SSLContext | bool) -> None:
        self.base = url.rstrip("/")
        self.bearer = {} if not key or signed else {"Authorization": f"Bearer {key}"}
        self.signer = parse_token(key) if signed else None
        if (key and parse_token(key) is None) or (signed and not key):
            raise UsageError("key: not ts_<id>_<secret>; tillstream keys create prints one")
        connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX, ssl=tls)
        self.session = aiohttp.ClientSession(connector=connector, auto_decompress=False)

    async def close(self) -> None:
        """Closes the connections."""
        await self.session.close()

    async def ask(
        self, method: str, target: str, body: bytes = b"", *, wait_ms: int | None = None, patience_s: float = 0.0
    ) -> Answered:
        """The answer to one request; `target`: path and query, encoded; `wait_ms`: how long the gateway may wait for a worker;
        `patience_s`: how long to go on asking, 0 for once.

        Raises:
            Away, Refused: as above.
        """
        until, failures = time.monotonic() + patience_s, 0
        while True:
            try:
                return await self._once(method, target, body, wait_ms)
            except Away as away:
                failures += 1
                pause = pause_s(failures, away.retry_after_s, random.random())
                if time.monotonic() + pause >= until:
                    raise
                await asyncio.sleep(pause)

    async def _once(self, method: str, target: str, body: bytes, wait_ms: int | None) -> Answered:
        url = URL(self.base + target, encoded=True)
        headers = self._headers(method, url, body)
        if wait_ms is not None:
            headers["Prefer"] = f"wait={wait_ms}"
        timeout = aiohttp.ClientTimeout(total=ANSWER_S + (wait_ms or 0) / 1000, sock_connect=CONNECT_S)
        try:
            async with self.session.request(
                method, url, data=payload(body), headers=headers, timeout=timeout, allow_redirects=False
            ) as answer:
                raw = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Away(f"{self.base}: {error or 'no answer in time'}") from None
        if answer.status < WRONG:
            return Answered(answer.status, raw)
        if answer.status in LATER or answer.status >= FAILED:
            asked = retry_after_s(answer.headers.get("Retry-After", ""), datetime.now(UTC))
            raise Away(f"{self.base}: {answer.status} {problem_in(answer.status, raw).detail}", asked)
        raise Refused(problem_in(answer.status, raw))

    def _headers(self, method: str, url: URL, body: bytes) -> dict[str, str]:
        headers = {**self.bearer, **(JSON if body else {})}
        if self.signer is not None:
            headers |= signature(self.signer, method, url.raw_path_qs, body)
        return headers


def payload(body: bytes) -> bytes | io.BytesIO | None:
    """A body as aiohttp wants it: what is large piece by piece, so that others on the loop have their turn."""
    return io.BytesIO(body) if len(body) > WHOLE_BYTES_MAX else body or None


def signature(key: Token, method: str, target: str, body: bytes) -> Mapping[str, str]:
    """Of one request, sent once: each attempt has a nonce of its own."""
    return signed_headers(key.key_id, key.secret, method, target, int(time.time()), secrets.token_hex(16), body)


def problem_in(status: int, body: bytes) -> Problem:
    """What the gateway says is wrong; what something in between says has no words of ours."""
    try:
        return _problem.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return problem(status, "invalid", f"an answer that is not the gateway's: {body[:80].decode(errors='replace')!r}")
