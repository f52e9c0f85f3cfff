"""Vouchers over HTTP, on a real broker, Redis and worker: what a till is told, racing tills, and whoever guesses."""

import secrets
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from msgspec.structs import replace

from tests.gateway_harness import WAIT, Place, Said, ask, gateway  # noqa: F401
from tests.pipeline_harness import IDENTITY_KEY, Stage, enrolled, stage, until
from tillstream.cli import main
from tillstream.installation import GatewayProcess, environment_of
from tillstream.kernels.voucher_codes import CHANCE_SYMBOLS, code_of, digest_of, grouped
from tillstream.schemas.offers import Worth
from tillstream.schemas.vouchers import VOUCHERS_SOURCE, Issued, IssuedEvent, Revoked, RevokedEvent, encode_voucher
from tillstream.streams.recovery import read_topic
from tillstream.streams.topics import MEMBERS, VOUCHERS

ENDS = datetime(2199, 1, 1, tzinfo=UTC)
TAKEN_S = 30.0


def new_code() -> str:
    return code_of(secrets.token_bytes(CHANCE_SYMBOLS))


def issue(here: Stage, count: int, **fields: Any) -> list[str]:
    """Fresh codes of a series of their own, on the topic."""
    codes = [new_code() for _ in range(count)]
    terms = {"worth": Worth(amount_off=500, currency="PLN"), "valid_until": ENDS, "codes": count, "block": 0} | fields
    series = f"s{secrets.token_hex(4)}"
    digests = [digest_of(code, IDENTITY_KEY) for code in codes]
    data = Issued(series=series, batch="1", fingerprint=secrets.token_hex(16), digests=digests, **terms)
    event = IssuedEvent(id=series, source=VOUCHERS_SOURCE, time=datetime.now(UTC), data=data)
    here.send([encode_voucher(event)], VOUCHERS, series)
    with here.client() as client:
        until(lambda: client.hexists("{vouchers}:codes", digests[-1]), "codes issued", TAKEN_S)
    return [grouped(code) for code in codes]


def voucher(there: Place, what: str, code: str, reservation_id: str = "r1", **more: Any) -> Said:
    body = {"code": code, **more}
    if what != "check":
        body |= {"store_id": "PL-1", "reservation_id": reservation_id} | more
    return there.post(f"/v1/vouchers/{what}", body)


def reason(said: Said) -> str:
    """Why a request was refused, as a problem of RFC 9457."""
    assert said.headers["content-type"] == "application/problem+json"
    assert said.body["status"] == said.status
    assert said.body["detail"]
    found: str = said.body["code"]
    return found


def test_voucher_is_reserved_redeemed_and_given_back_for_a_return(gateway: Place) -> None:  # noqa: F811
    (code,) = issue(gateway.stage, 1)
    free = voucher(gateway, "check", code.lower().replace("-", " "))
    assert (free.status, free.body["outcome"], free.body["standing"]) == (200, "usable", "free")
    assert free.body["worth"] == {"amount_off": 500, "currency": "PLN"}
    reserved = voucher(gateway, "reserve", code)
    assert (reserved.status, reserved.body["outcome"], reserved.body["standing"]) == (200, "accepted", "reserved")
    assert reserved.body["reserved_until"] is not None
    again = voucher(gateway, "reserve", code)
    assert (again.body["outcome"], again.body["reserved_until"]) == ("duplicate", reserved.body["reserved_until"])
    for outcome in ("accepted", "duplicate"):
        used = voucher(gateway, "redeem", code, receipt_id="p1")
        assert (used.status, used.body["outcome"], used.body["standing"]) == (200, outcome, "redeemed")
    back = voucher(gateway, "release", code, returned_by="v1")
    assert (back.status, back.body["outcome"], back.body["standing"]) == (200, "accepted", "released")
    assert voucher(gateway, "redeem", code, "r2").body["outcome"] == "accepted"


def test_every_refusal_has_its_reason_and_words_for_the_customer(gateway: Place) -> None:  # noqa: F811
    now = datetime.now(UTC)
    reserved, redeemed = issue(gateway.stage, 2)
    (expired,) = issue(gateway.stage, 1, valid_until=now - timedelta(days=1))
    (early,) = issue(gateway.stage, 1, valid_from=now + timedelta(days=1))
    (other,) = issue(gateway.stage, 1, members=["m-other"])
    voucher(gateway, "reserve", reserved)
    voucher(gateway, "redeem", redeemed)
    voucher(gateway, "release", early, "r-back")
    for what in ("check", "redeem"):
        for code, expected in ((expired, "expired"), (early, "not_yet_valid"), (other, "not_this_member")):
            said = voucher(gateway, what, code)
            assert (said.status, reason(said)) == (409, expected)
        assert reason(voucher(gateway, what, new_code())) == "unknown"
        assert voucher(gateway, what, new_code()).status == 404
    for code, expected in ((reserved, "reserved"), (redeemed, "redeemed")):
        for what in ("check", "reserve", "redeem"):
            assert reason(voucher(gateway, what, code, "r2")) == expected
    assert "tills/PL-1" in voucher(gateway, "check", redeemed).body["detail"]
    assert reason(voucher(gateway, "release", redeemed)) == "redeemed"
    assert reason(voucher(gateway, "redeem", early, "r-back")) == "released"
    mistyped = redeemed[:-1] + ("2" if redeemed[-1] != "2" else "3")
    said = voucher(gateway, "redeem", mistyped)
    assert (said.status, reason(said), said.body["path"]) == (422, "wrong_check_character", "$.code")


def test_revoked_voucher_is_refused(gateway: Place) -> None:  # noqa: F811
    (code,) = issue(gateway.stage, 1)
    series = voucher(gateway, "check", code).body["series"]
    event = RevokedEvent(id=f"{series}/r", source=VOUCHERS_SOURCE, time=datetime.now(UTC), data=Revoked(series=series))
    gateway.stage.send([encode_voucher(event)], VOUCHERS, series)
    until(lambda: voucher(gateway, "check", code).status == 409, "revoked", TAKEN_S)
    assert reason(voucher(gateway, "redeem", code)) == "revoked"


def test_refusals_leave_no_record(gateway: Place) -> None:  # noqa: F811
    (code,) = issue(gateway.stage, 1)
    assert voucher(gateway, "redeem", code).body["outcome"] == "accepted"
    before = sum(1 for _ in read_topic(gateway.stage.kafka, VOUCHERS, 0, 0))
    for asked in (code, new_code()):
        assert voucher(gateway, "redeem", asked, "r2").status in {404, 409}
    assert voucher(gateway, "redeem", code).body["outcome"] == "duplicate"
    assert sum(1 for _ in read_topic(gateway.stage.kafka, VOUCHERS, 0, 0)) == before


def test_voucher_of_a_member_is_theirs_by_card_and_after_a_merge(gateway: Place) -> None:  # noqa: F811
    one, two = issue(gateway.stage, 2, members=["m-v1", "m-v1"])
    card = {"scheme": "card", "value": "2900000000017"}
    gateway.stage.send([enrolled("m-v1", card["value"]), enrolled("m-v2", "2900000000018")], MEMBERS)
    until(lambda: voucher(gateway, "check", one, member=card).status == 200, "enrolled", TAKEN_S)
    other = {"scheme": "card", "value": "2900000000018"}
    assert reason(voucher(gateway, "reserve", one, member=other)) == "not_this_member"
    assert voucher(gateway, "reserve", one, member=card).body["of_member"] is True
    assert voucher(gateway, "redeem", one).body["outcome"] == "accepted"
    envelope = {"specversion": "1.0", "id": "merge-v", "source": "crm", "time": "2026-03-02T00:00:00Z"}
    gateway.stage.send([{**envelope, "type": "member.merged", "data": {"from": "m-v1", "into": "m-v2"}}], MEMBERS)
    until(lambda: voucher(gateway, "check", two, member=other).status == 200, "merged", TAKEN_S)
    assert voucher(gateway, "redeem", two, member=other).body["outcome"] == "accepted"


def test_racing_tills_reserve_each_code_once(gateway: Place, tmp_path: Path) -> None:  # noqa: F811
    codes = issue(gateway.stage, 12)
    second = GatewayProcess(gateway.stage.config, tmp_path / "second")
    second.start()
    try:
        addresses = (gateway.gateway.address, second.address)

        def race(place: int) -> tuple[str, Said]:
            code = codes[place % len(codes)]
            body = {"code": code, "store_id": f"PL-{place}", "reservation_id": "r1"}
            return code, ask(addresses[place % 2], "POST", "/v1/vouchers/redeem", body, WAIT)

        with ThreadPoolExecutor(16) as tills:
            found = list(tills.map(race, range(96)))
    finally:
        second.stop()
    assert Counter(code for code, said in found if said.status == 200) == Counter(codes)
    assert all(said.status == 200 or reason(said) == "redeemed" for _, said in found)


def test_guessing_costs_a_key_its_share_and_codes_are_in_no_log(tmp_path: Path) -> None:
    with stage(tmp_path) as here:
        config = replace(here.config, gateway_auth=True, gateway_rates="till=1/100", log_level="debug")
        created = CliRunner().invoke(main, ["keys", "create", "--scope", "till", "--store", "PL-1"], env=environment_of(config))
        token = created.stdout.strip()
        server = GatewayProcess(config, tmp_path / "gateway")
        with here.worker():
            server.start()
            try:
                (code,) = issue(here, 1)
                headers = {"Authorization": f"Bearer {token}", **WAIT}

                def redeem(tried: str, store_id: str = "PL-1") -> Said:
                    body = {"code": tried, "store_id": store_id, "reservation_id": "r1"}
                    return ask(server.address, "POST", "/v1/vouchers/redeem", body, headers)

                assert redeem(code, "PL-2").status == 403
                assert redeem(code).status == 200
                guesses = [new_code() for _ in range(8)]
                statuses = [redeem(guess).status for guess in guesses]
                assert statuses[:3] == [404] * 3
                assert statuses[-1] == 429
                log = "\n".join(server.log_tail())
                assert not [tried for tried in (code, *guesses) if tried in log or tried.replace("-", "") in log]
            finally:
                server.stop()
