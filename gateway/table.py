"""All endpoints, declared once: aiohttp's routes, the OpenAPI document and the scopes of keys are made of this table."""

from tillstream.gateway import bodies
from tillstream.gateway.answers import Health, Identified, Outcome, Outcomes, Quoted, Readiness, Statement, Taken
from tillstream.gateway.clicks import CLICKS_BYTES_MAX, post_clicks, snippet
from tillstream.gateway.identify import identify
from tillstream.gateway.offers import answers
from tillstream.gateway.operating import healthz, metrics, readyz
from tillstream.gateway.permits import RouteScope
from tillstream.gateway.quoting import quote
from tillstream.gateway.receipts import batch_size, get_outcome, get_receipt, post_batch, post_receipt
from tillstream.gateway.routes import Parameter, Route
from tillstream.gateway.statement import PAGE, PAGE_MAX, statement
from tillstream.gateway.triggers import EVENT_STREAM, LAST_EVENT_ID, stream_page, stream_triggers
from tillstream.gateway.voucher_forms import CheckVoucherBody, RedeemVoucherBody, ReleaseVoucherBody, ReserveVoucherBody, VoucherTold
from tillstream.gateway.vouchers import check_voucher, redeem_voucher, release_voucher, reserve_voucher
from tillstream.gateway.writes import Handler, registers, sends
from tillstream.schemas.offers import ClickedEvent, RedeemedEvent, ShownEvent

PREFER = Parameter("Prefer", "`wait=<ms>`: how long to wait for the worker, milliseconds; past it the answer is 202.", place="header")
IDEMPOTENCY_KEY = Parameter("Idempotency-Key", "The event's `id`. Sent again under it, the event counts once, for ever.", place="header")

AFTER = (
    Parameter(LAST_EVENT_ID, "The last `id` that came: what followed it comes first. Browsers say it by themselves.", place="header"),
    Parameter("after", "The same, where no header can be set: of a page that was loaded since."),
)

SENT = {200: Outcome, 202: Outcome}
"""What became of an event; 202: not known yet, or, of a return, its sale has not come."""


def event(path: str, name: str, summary: str, takes: object, handler: Handler, scope: RouteScope) -> Route:
    """An endpoint that sends one event and waits for its outcome."""
    parameters = (PREFER, IDEMPOTENCY_KEY)
    return Route(
        method="POST", path=path, name=name, summary=summary, handler=handler, answers=SENT, scope=scope, takes=takes,
        parameters=parameters, patient=True,
    )  # fmt: skip


def voucher(path: str, name: str, summary: str, takes: object, handler: Handler) -> Route:
    """An endpoint that does something with a voucher, and waits for what becomes of it."""
    answers = {200: VoucherTold, 202: VoucherTold}
    return Route(
        method="POST", path=path, name=name, summary=summary, handler=handler, answers=answers, scope="till", takes=takes,
        parameters=(PREFER,), patient=True,
    )  # fmt: skip


ROUTES = (
    Route(
        method="POST", path="/v1/identify", name="identify", scope="look", takes=bodies.IdentifyBody, answers={200: Identified},
        summary="Who stands at the till: first name, tier, balances, and what may be spent now.", handler=identify,
    ),
    Route(
        method="POST", path="/v1/quote", name="quote", scope="look", takes=bodies.QuoteBody, answers={200: Quoted},
        summary="What a basket would earn, line by line, and the points that may pay it. Changes nothing.", handler=quote,
    ),
    event("/v1/receipts", "post_receipt", "A sale, a return or a void.", bodies.ReceiptBody, post_receipt, "till"),
    Route(
        method="POST", path="/v1/receipts/batch", name="post_receipts", scope="till", takes=bodies.BatchBody, answers={200: Outcomes},
        summary="Receipts of a till that was offline, each with its own outcome.", handler=post_batch, parameters=(PREFER,), patient=True,
        size=batch_size,
    ),
    Route(
        method="GET", path="/v1/receipts/{id}", name="get_receipt", scope="look", answers={200: Outcome}, handler=get_receipt, patient=True,
        summary="What became of a receipt; the slashes in its id are written %2F.",
        parameters=(
            Parameter("source", "Who issued it, as `tills/PL-0001`.", required=True),
            Parameter("void", "Whether its void is asked for.", bool),
        ),
    ),
    Route(
        method="GET", path="/v1/outcomes/{key}", name="get_outcome", scope="look", answers={200: Outcome}, handler=get_outcome,
        summary="What became of any other event, by its natural key.", patient=True,
        parameters=(Parameter("member", "Of a member event: the member."),),
    ),
    event("/v1/holds", "hold", "Sets points aside for one purchase.", bodies.HoldBody, sends("points.hold"), "till"),
    event(
        "/v1/holds/{id}/release", "release", "Gives a hold back.", bodies.ReleaseBody, sends("points.release", hold_id="id"), "till"
    ),
    event("/v1/redemptions", "redeem", "Spends points on a reward.", bodies.RedeemBody, sends("points.redeem"), "till"),
    event("/v1/adjustments", "adjust", "Corrects a balance; says why and who.", bodies.AdjustBody, sends("points.adjust"), "admin"),
    event(
        "/v1/transfers", "transfer", "Moves points within a household.", bodies.TransferBody, sends("points.transfer"), "members"
    ),
    event("/v1/activities", "activity", "What a member did besides buying.", bodies.ActivityBody, sends("activity."), "members"),
    event("/v1/members", "enrol", "Enrols a member, or says what has changed.", bodies.EnrolBody, registers("member.enrolled"), "members"),
    event(
        "/v1/members/{id}/identities", "add_identity", "Adds a card, phone, app, ...", bodies.IdentityBody,
        registers("member.identity_added", member_id="id"), "members",
    ),
    event(
        "/v1/members/{id}/consents", "change_consents", "Gives or withdraws consents, by purpose.", bodies.ConsentBody,
        registers("member.consent_changed", member_id="id"), "members",
    ),
    event(
        "/v1/members/{id}/household", "change_household", "Joins or leaves a household.", bodies.HouseholdBody,
        registers("member.household_changed", member_id="id"), "members",
    ),
    event(
        "/v1/members/{id}/merge", "merge", "The member is the same person as another.", bodies.MergeBody,
        registers("member.merged", **{"from": "id"}), "admin",
    ),
    event(
        "/v1/members/{id}/unmerge", "unmerge", "Ends a merge.", bodies.MergeBody, registers("member.unmerged", **{"from": "id"}), "admin"
    ),
    event(
        "/v1/members/{id}/erase", "erase", "Forgets who the member is; the ledger stays.", bodies.EraseBody,
        registers("member.erased", member_id="id"), "admin",
    ),
    Route(
        method="GET", path="/v1/members/{id}/statement", name="statement", scope="read", answers={200: Statement}, handler=statement,
        summary="A member's ledger entries, the latest first, each with its reason.", also=("text/csv",), patient=True,
        parameters=(
            Parameter("limit", f"Entries in a page, 1 to {PAGE_MAX}; {PAGE} unless given.", int),
            Parameter("cursor", "`next` of the page before."),
        ),
    ),
    Route(
        method="POST", path="/v1/vouchers/check", name="check_voucher", scope="till", takes=CheckVoucherBody, answers={200: VoucherTold},
        summary="Whether a voucher can be used, and what it is worth. Changes nothing.", handler=check_voucher,
    ),
    voucher("/v1/vouchers/reserve", "reserve_voucher", "Keeps a voucher for one purchase.", ReserveVoucherBody, reserve_voucher),
    voucher("/v1/vouchers/redeem", "redeem_voucher", "Uses a voucher up.", RedeemVoucherBody, redeem_voucher),
    voucher("/v1/vouchers/release", "release_voucher", "Gives a voucher back.", ReleaseVoucherBody, release_voucher),
    Route(
        method="POST", path="/v1/events", name="post_events", scope="clicks", takes=bodies.ClicksBody, answers={202: Taken},
        summary="Page views and the like, in GA4's shape; as `text/plain` too, as beacons send them.", handler=post_clicks,
        parameters=(Parameter("key", "A key of scope `clicks`, for callers that can set no headers, as beacons."),),
        body_bytes_max=CLICKS_BYTES_MAX, crossing=True,
    ),
    Route(
        method="POST", path="/v1/offers/{decision_id}/shown", name="offer_shown", scope="clicks", answers={202: Taken},
        summary="The member saw an offer.", handler=answers(ShownEvent), crossing=True,
    ),
    Route(
        method="POST", path="/v1/offers/{decision_id}/clicked", name="offer_clicked", scope="clicks", answers={202: Taken},
        summary="The member followed an offer.", handler=answers(ClickedEvent), crossing=True,
    ),
    Route(
        method="POST", path="/v1/offers/{decision_id}/redeemed", name="offer_redeemed", scope="till", answers={202: Taken},
        summary="The member used an offer.", handler=answers(RedeemedEvent),
    ),
    Route(
        method="GET", path="/v1/snippet.js", name="snippet", answers={200: "text/javascript"}, handler=snippet,
        summary="What a shop's page loads to send page views.",
    ),
    Route(
        method="GET", path="/v1/triggers/stream", name="stream_triggers", scope="campaigns", answers={200: EVENT_STREAM},
        summary="Offers as they are triggered, as server-sent events.", handler=stream_triggers, patient=True,
        parameters=(
            Parameter("offer", "Of this offer only; may be said several times."),
            Parameter("channel", "Of this channel only; may be said several times."),
            *AFTER,
        ),
    ),
    Route(
        method="GET", path="/v1/triggers/page", name="stream_page", scope="clicks", answers={200: EVENT_STREAM},
        summary="A visitor's offers for the page that is open, as server-sent events.", handler=stream_page, patient=True, crossing=True,
        parameters=(
            Parameter("visitor", "The page's `visitor_id`.", required=True),
            Parameter("key", "A key of scope `clicks`, since browsers can set no headers here."),
            *AFTER,
        ),
    ),
    Route(
        method="GET", path="/healthz", name="healthz", answers={200: Health}, handler=healthz, summary="Whether the process runs.",
    ),
    Route(
        method="GET", path="/readyz", name="readyz", answers={200: Readiness, 503: Readiness}, handler=readyz,
        summary="Whether requests can be answered now.",
    ),
    Route(
        method="GET", path="/metrics", name="metrics", answers={200: "text/plain"}, handler=metrics,
        summary="Counters and latencies, for Prometheus.",
    ),
)  # fmt: skip
