"""`/v1/vouchers/...`: tills look at single-use codes, reserve and redeem them, and give them back.

A request is judged on what Redis shows first, by the function that the worker judges it by, so that a refusal costs no record. What seems
lawful goes to the topic `vouchers`, and counts where it is lawful there too: the worker that has the topic says so. A code is looked up by
its keyed hash, known or not, so that the time an answer takes tells nothing of how near a guess was.
"""

import asyncio
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from tillstream.gateway.bodies import decoded
from tillstream.gateway.composing import TILLS
from tillstream.gateway.keys import has_store
from tillstream.gateway.problems import Refusal, problem, refusal, unavailable
from tillstream.gateway.producer import KafkaAway
from tillstream.gateway.routes import Answer, Call
from tillstream.gateway.sending import wait_s
from tillstream.gateway.voucher_forms import (
    CheckVoucherBody,
    RedeemVoucherBody,
    ReleaseVoucherBody,
    ReserveVoucherBody,
    VoucherBody,
    VoucherTold,
)
from tillstream.kernels.facts import limit
from tillstream.kernels.registry import root_of
from tillstream.kernels.voucher_codes import WrongCode, digest_of, parsed
from tillstream.kernels.vouchers import NOBODY, Reason, Vouchers, is_held, standing_of, why_not
from tillstream.schemas.events import Malformed, instant_text
from tillstream.schemas.receipts import Identity
from tillstream.schemas.vouchers import (
    ClaimEvent,
    Redeemed,
    RedeemedEvent,
    Released,
    ReleasedEvent,
    Reserved,
    ReservedEvent,
    encode_voucher,
)
from tillstream.sinks.vouchers import Shown
from tillstream.sinks.writer import Record
from tillstream.streams.topics import VOUCHERS

UNKNOWN_TOKENS = 20
"""Requests that a well-formed code which does not exist counts as: a mistyped one is told by its last letter, so it may be a guess."""

_check = msgspec.json.Decoder(CheckVoucherBody)
_reserve = msgspec.json.Decoder(ReserveVoucherBody)
_redeem = msgspec.json.Decoder(RedeemVoucherBody)
_release = msgspec.json.Decoder(ReleaseVoucherBody)


async def check_voucher(call: Call) -> Answer:
    """Whether a code can be used now, and what it is worth; else why not. Changes nothing."""
    asked = decoded(_check, call.body)
    shown = await call.gateway.vouchers.shown(digest_in(call, asked.code))
    moment = datetime.now(UTC)
    if not shown.view.whole:
        raise unavailable("the view of vouchers")
    if shown.voucher is None or shown.batch is None:
        raise refused(call, "unknown", shown)
    buyer = await buyer_of(call, asked.member, shown, moment)
    reason = why_not(shown.voucher, shown.batch, NOBODY, buyer, moment)
    if reason is not None:
        raise refused(call, reason, shown)
    return Answer(told("usable", shown, moment))


async def reserve_voucher(call: Call) -> Answer:
    """Keeps a code for one purchase."""
    asked = decoded(_reserve, call.body)

    def event(digest: str, buyer: str | None, **envelope: Any) -> ClaimEvent:
        until = envelope["time"] + timedelta(seconds=asked.seconds)
        data = Reserved(digest=digest, reservation_id=asked.reservation_id, until=until, member_id=buyer)
        return ReservedEvent(**envelope, data=data)

    return await claim(call, asked, asked.member, event)


async def redeem_voucher(call: Call) -> Answer:
    """Uses a code up, reserved or not."""
    asked = decoded(_redeem, call.body)

    def event(digest: str, buyer: str | None, **envelope: Any) -> ClaimEvent:
        data = Redeemed(digest=digest, reservation_id=asked.reservation_id, member_id=buyer, receipt_id=asked.receipt_id)
        return RedeemedEvent(**envelope, data=data)

    return await claim(call, asked, asked.member, event)


async def release_voucher(call: Call) -> Answer:
    """Gives a reservation back; with `returned_by`, a redeemed code as well."""
    asked = decoded(_release, call.body)

    def event(digest: str, _: str | None, **envelope: Any) -> ClaimEvent:
        data = Released(digest=digest, reservation_id=asked.reservation_id, returned_by=asked.returned_by)
        return ReleasedEvent(**envelope, data=data)

    return await claim(call, asked, None, event)


async def claim(call: Call, asked: VoucherBody, member: Identity | None, compose: Callable[..., ClaimEvent]) -> Answer:
    """Sends what a till does with a code, and gives what became of it."""
    check_store(call, asked.store_id)
    digest, gateway = digest_in(call, asked.code), call.gateway
    shown, moment = await gateway.vouchers.shown(digest), datetime.now(UTC)
    buyer = await buyer_of(call, member, shown, moment)
    to = gateway.inbox.expect()
    try:
        event = compose(digest, buyer, id=secrets.token_hex(16), source=TILLS + asked.store_id, time=moment, replyto=to)
        if is_done(call, event, shown):
            return Answer(told("duplicate", shown, moment))
        try:
            await gateway.events.submit([Record(VOUCHERS, digest.encode(), encode_voucher(event))])
        except KafkaAway:
            raise unavailable("Kafka") from None
        reply = await gateway.inbox.reply(to, wait_s(call))
    finally:
        gateway.inbox.forget(to)
    if reply is None:
        return Answer(told("pending", shown, moment), 202)
    shown = await gateway.vouchers.shown(digest)
    if reply.problem is not None:
        raise refused(call, msgspec.convert(reply.code, Reason), shown)
    return Answer(told("accepted" if reply.status == "accepted" else "duplicate", shown, moment))


def is_done(call: Call, event: ClaimEvent, shown: Shown) -> bool:
    """Whether a claim has been taken already, as Redis shows; False where the worker is to say, also while Redis is being filled.

    Raises:
        Refusal: it can't be taken.
    """
    if not shown.view.whole:
        return False
    codes = {} if shown.voucher is None else {event.data.digest: shown.voucher}
    batches = {} if shown.voucher is None or shown.batch is None else {shown.voucher.batch: shown.batch}
    status = Vouchers(codes, batches).take(event)
    if status == "accepted":
        return False
    if status != "duplicate":
        raise refused(call, status, shown)
    return True


def digest_in(call: Call, code: str) -> str:
    """The hash of the code that somebody brings.

    Raises:
        Refusal: 422, it was mistyped.
    """
    try:
        return digest_of(parsed(code), call.gateway.seal.key)
    except WrongCode as error:
        raise refusal(Malformed("wrong_check_character", "$.code", str(error))) from None


def check_store(call: Call, store_id: str) -> None:
    """Raises Refusal (403) where a till's key speaks as another store."""
    if call.key is not None and call.key.scope == "till" and not has_store(call.key, store_id):
        stores = ", ".join(call.key.stores)
        raise refusal(Malformed("forbidden", "$.store_id", f"{store_id!r} is none of this key's stores: {stores}"))


async def buyer_of(call: Call, member: Identity | None, shown: Shown, moment: datetime) -> str | None:
    """The member who buys; the one whose code it is, where the two are the same person by a merge. None: nobody that is known."""
    if member is None:
        return None
    sealed, owner = call.gateway.seal.sealed(member), None if shown.voucher is None else shown.voucher.member_id
    others = [] if owner is None else [Identity("member", owner)]
    registry = await call.gateway.registry.of_identities([sealed, *others])
    buyer, into = registry.member_at(sealed, limit(moment)), registry.merges(limit(moment)).into
    if buyer is not None and owner is not None and root_of(buyer, into) == root_of(owner, into):
        return owner
    return buyer


def refused(call: Call, reason: Reason, shown: Shown) -> Refusal:
    """Why a code is refused, in words for a cashier; a code that does not exist counts against the caller's share."""
    if reason == "unknown":
        security, key = call.gateway.security, call.key
        if security is not None and key is not None:
            security.buckets.charge(key.key_id, key.scope, UNKNOWN_TOKENS, asyncio.get_running_loop().time())
        return Refusal(problem(404, "unknown", "no voucher has this code", "$.code"))
    return Refusal(problem(409, reason, words(reason, shown), "$.code"))


def words(reason: Reason, shown: Shown) -> str:
    """What a cashier can tell a customer."""
    voucher, batch = shown.voucher, shown.batch
    if voucher is None or batch is None:
        return "the voucher cannot be used"
    if reason == "redeemed" and voucher.redeemed_at is not None and voucher.owner is not None:
        return f"the voucher was redeemed at {instant_text(voucher.redeemed_at)} by {voucher.owner.source}"
    if reason == "reserved" and voucher.until is not None:
        return f"another purchase has the voucher until {instant_text(voucher.until)}"
    if reason == "not_yet_valid" and batch.valid_from is not None:
        return f"the voucher holds from {instant_text(batch.valid_from)} on"
    return {
        "expired": f"the voucher held until {instant_text(batch.valid_until)}",
        "revoked": "the voucher was revoked",
        "not_this_member": "the voucher is another member's; say who buys in `member`",
        "released": "this reservation was given back; reserve under another reservation_id",
    }.get(reason, "the voucher cannot be used")


def told(outcome: Any, shown: Shown, moment: datetime) -> VoucherTold:
    """How a code stands, as far as Redis shows it."""
    voucher, batch = shown.voucher, shown.batch
    if voucher is None or batch is None:
        return VoucherTold(outcome=outcome)
    return VoucherTold(
        outcome=outcome,
        standing=standing_of(voucher, batch, moment),
        series=batch.series,
        worth=batch.worth,
        valid_until=batch.valid_until,
        of_member=voucher.member_id is not None,
        reserved_until=voucher.until if is_held(voucher, moment) else None,
    )
