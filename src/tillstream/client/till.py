"""What a till asks and says, one method each.

    identify, quote        asked again while there is patience, then `Away`
    hold, release          the same; sent again, they count once, by their `hold_id`
    enrol                  the same, by its `id` and `time`
    post                   to the gateway, or, while it is away or others wait already, to the queue on disk
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from ssl import SSLContext
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Struct

from tillstream.client.asking import Asking, Away, Refused
from tillstream.client.patience import PATIENCE_S
from tillstream.client.queue import OfflineQueue, Told, is_own
from tillstream.gateway.answers import Identified, Outcome, Outcomes, Quoted
from tillstream.gateway.bodies import EnrolBody, HoldBody, QuoteBody, ReceiptBody, ReleaseBody, decoded
from tillstream.gateway.problems import Refusal
from tillstream.schemas.fields import Scheme
from tillstream.schemas.receipts import Identity

QUEUE_BYTES_MAX = 64 * 1024 * 1024
"""Some 40,000 receipts: a large shop's fortnight."""

WAIT_MS = 500
"""How long a till wants to wait for the points of a receipt; the gateway's own default."""

QUEUE_WAIT_MS = 2_000
"""For a batch of receipts nobody stands at the till; only outcomes that are known tell refusals."""

NOT_FOUND = 404

Body = Struct | Mapping[str, Any] | bytes
"""A body: a type of gateway/bodies.py, what `json` makes of it, or its JSON."""

_encode = msgspec.json.Encoder().encode
_receipt = msgspec.json.Decoder(ReceiptBody)
_identified, _quoted = msgspec.json.Decoder(Identified), msgspec.json.Decoder(Quoted)
_outcome, _outcomes = msgspec.json.Decoder(Outcome), msgspec.json.Decoder(Outcomes)


class Queued(Struct, frozen=True):
    """The receipt is synced to this till's disk and goes out when those before it have; `waiting`: how many they are, it included."""

    waiting: int


class Client:
    """A till's line to one gateway; use it as a context manager.

    Attributes:
        key: `ts_<id>_<secret>`; '': the gateway wants none.
        signed: the key was made with `--signed`.
        queue: folder for receipts that wait, of this process alone; None: there is no queue, and `post` raises `Away`.
        queue_bytes_max: what the queue may take on disk.
        wait_ms: how long the gateway may wait for the points of a receipt, milliseconds.
        patience_s: how long one call goes on asking, seconds; 0: it asks once.
        tls: what `https` trusts: True, what the system does.
        told: hears what became of each receipt that had waited; a call that returns at once.
    """

    def __init__(
        self,
        url: str,
        key: str = "",
        *,
        signed: bool = False,
        queue: Path | None = None,
        queue_bytes_max: int = QUEUE_BYTES_MAX,
        wait_ms: int = WAIT_MS,
        patience_s: float = PATIENCE_S,
        tls: SSLContext | bool = True,
        told: Told | None = None,
    ) -> None:
        self.url, self.key, self.signed, self.tls = url, key, signed, tls
        self.folder, self.queue_bytes_max, self.told = queue, queue_bytes_max, told
        self.wait_ms, self.patience_s = wait_ms, patience_s
        self.queue: OfflineQueue | None = None

    async def __aenter__(self) -> Self:
        self.asking = Asking(self.url, self.key, signed=self.signed, tls=self.tls)
        if self.folder is not None:
            try:
                self.queue = OfflineQueue(self.folder, self.queue_bytes_max, self._batch, self.told)
            except BaseException:
                await self.asking.close()
                raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.queue is not None:
            await self.queue.close()
        await self.asking.close()

    @property
    def queued(self) -> int:
        """Receipts that wait on this till's disk."""
        return 0 if self.queue is None else self.queue.records

    async def drained(self, seconds: float) -> bool:
        """Waits until no receipt is left in the queue; False: not within so many seconds."""
        return self.queue is None or await self.queue.drained(seconds)

    async def identify(self, scheme: Scheme, value: str, *, with_snapshot: bool = False) -> Identified:
        """Who shows a card, phone, ...: name, tier, balances; with a `snapshot` to quote by while Redis does not answer.

        Raises:
            Away: nobody answered within `patience_s`. Here and below:
            Refused: the body is wrong, or the key is not for this.
        """
        body = _encode({"identity": Identity(scheme, value), "with_snapshot": with_snapshot})
        return _identified.decode(await self._ask("POST", "/v1/identify", body))

    async def quote(self, basket: QuoteBody | Mapping[str, Any] | bytes) -> Quoted:
        """What a basket would earn, and the points that may pay it."""
        return _quoted.decode(await self._ask("POST", "/v1/quote", encoded(basket)))

    async def enrol(self, enrolment: EnrolBody | Mapping[str, Any] | bytes) -> Outcome:
        """Enrols a member, or says what has changed; takes a key of scope `members` or `admin`."""
        return await self._send("/v1/members", encoded(enrolment))

    async def hold(self, hold: HoldBody | Mapping[str, Any] | bytes) -> Outcome:
        """Sets points aside; what the program does not allow is `refused`, as in all outcomes."""
        return await self._send("/v1/holds", encoded(hold))

    async def release(self, hold_id: str, release: ReleaseBody | Mapping[str, Any] | bytes) -> Outcome:
        """Gives a hold back."""
        return await self._send(f"/v1/holds/{quote(hold_id, safe='')}/release", encoded(release))

    async def post(self, receipt: Body) -> Outcome | Queued:
        """A sale, a return or a void: its outcome, or that it waits on disk. Either way it is kept when this returns.

        Raises:
            Away: there is no queue.
            QueueFull: there is no room in it.
        """
        body = encoded(receipt)
        try:
            decoded(_receipt, body)  # What is no receipt must not wait until it is refused.
        except Refusal as refusal:
            return Outcome("refused", "", problem=refusal.problem)
        if self.queue is None:
            return await self._send("/v1/receipts", body)
        if self.queue.records == 0:
            try:
                return await self._send("/v1/receipts", body)
            except (Away, Refused):
                pass  # A key that is wrong is no fault of the receipt's either.
        return Queued(await self.queue.put(body))

    async def post_batch(self, receipts: Sequence[Body]) -> list[Outcome]:
        """Up to 500 receipts at once, past the queue, each with its own outcome, in order."""
        return await self._batch([encoded(receipt) for receipt in receipts], self.patience_s)

    async def receipt(self, receipt_id: str, source: str, *, void: bool = False) -> Outcome | None:
        """What became of a receipt, or of its void; None: nothing is known of it."""
        query = urlencode({"source": source} | ({"void": "true"} if void else {}))
        return await self.status(f"/v1/receipts/{quote(receipt_id, safe='')}?{query}")

    async def status(self, address: str) -> Outcome | None:
        """What became of an event, by the `status` of its outcome; None: nothing is known of it."""
        try:
            return _outcome.decode(await self._ask("GET", address, b""))
        except Refused as refused:
            if refused.problem.status == NOT_FOUND:
                return None
            raise

    async def _ask(self, method: str, target: str, body: bytes) -> bytes:
        return (await self.asking.ask(method, target, body, patience_s=self.patience_s)).body

    async def _send(self, target: str, body: bytes) -> Outcome:
        try:
            answer = await self.asking.ask("POST", target, body, wait_ms=self.wait_ms, patience_s=self.patience_s)
        except Refused as refused:
            if not is_own(refused.problem):
                raise
            return Outcome("refused", "", problem=refused.problem)
        return _outcome.decode(answer.body)

    async def _batch(self, bodies: Sequence[bytes], patience_s: float = 0.0) -> list[Outcome]:
        body = b'{"events":[' + b",".join(bodies) + b"]}"
        answer = await self.asking.ask("POST", "/v1/receipts/batch", body, wait_ms=QUEUE_WAIT_MS, patience_s=patience_s)
        return _outcomes.decode(answer.body).outcomes


def encoded(body: Body) -> bytes:
    """A body as it is sent, each time."""
    return body if isinstance(body, bytes) else _encode(body)
