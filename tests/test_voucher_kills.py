"""kill -9 of worker and gateway while tills redeem: each code is used once, by whoever was told so, also after Redis was emptied."""

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPException
from pathlib import Path
from threading import Event
from time import monotonic, sleep

import pytest

from tests.gateway_harness import Said, ask
from tests.pipeline_harness import IDENTITY_KEY, until
from tests.pipeline_harness import stage as staged
from tests.test_gateway_vouchers import issue
from tillstream.embedded.process import Server
from tillstream.installation import GatewayProcess, WorkerProcess
from tillstream.kernels.voucher_codes import digest_of
from tillstream.kernels.vouchers import Owner, Voucher
from tillstream.schemas.vouchers import RedeemedEvent, decode_voucher
from tillstream.sinks.vouchers import read_voucher
from tillstream.streams.recovery import read_topic
from tillstream.streams.topics import VOUCHERS

CODES = 120
TILLS = 8
PATIENCE_S = 120.0
DOWN_S = 0.3
PAUSE_S = 0.05


def decided(address: str, body: dict[str, str], stopped: Event) -> Said | None:
    """Asks the same again until somebody says yes or no, as a till does; None: the test is over."""
    deadline = monotonic() + PATIENCE_S
    while monotonic() < deadline and not stopped.is_set():
        try:
            said = ask(address, "POST", "/v1/vouchers/redeem", body, {"Prefer": "wait=300"})
        except (OSError, HTTPException):
            sleep(PAUSE_S)
            continue
        if said.status in {200, 409}:
            return said
        assert said.status in {202, 500, 503}, said
        sleep(PAUSE_S)
    return None


@pytest.mark.slow
def test_worker_and_gateway_killed_while_tills_redeem_use_no_code_twice_and_lose_none(tmp_path: Path) -> None:
    with staged(tmp_path) as here, ExitStack() as stack:
        worker, gateway = WorkerProcess(here.config, "points", tmp_path / "worker"), GatewayProcess(here.config, tmp_path / "gateway")
        servers: list[Server] = [worker, gateway]
        for server in servers:
            stack.callback(server.stop)
            server.start()
        codes = issue(here, CODES)
        tries = [(code, f"PL-{till}") for code in codes for till in range(3)]
        random.Random(1).shuffle(tries)
        stopped = Event()

        def redeem(tried: tuple[str, str]) -> tuple[str, str, Said | None]:
            code, store = tried
            sleep(PAUSE_S)
            return code, store, decided(gateway.address, {"code": code, "store_id": store, "reservation_id": "r1"}, stopped)

        with ThreadPoolExecutor(TILLS) as tills:
            found = [tills.submit(redeem, tried) for tried in tries]
            try:
                for server in (worker, gateway, worker, gateway):
                    sleep(1.0)
                    server.kill()
                    sleep(DOWN_S)
                    server.start()
                told = [future.result() for future in found]
            finally:
                stopped.set()
        assert all(said is not None for _, _, said in told)
        owners = [(code, store) for code, store, said in told if said is not None and said.status == 200]
        assert sorted(code for code, _ in owners) == sorted(codes)
        worker.kill()
        with here.client() as client:
            client.flushall()
        worker.start()
        digests = {digest_of(code.replace("-", ""), IDENTITY_KEY): Owner(f"tills/{store}", "r1") for code, store in owners}
        with here.client() as client:
            until(lambda: client.hget("{vouchers}:meta", "whole") is not None, "Redis filled again", PATIENCE_S, worker)
            kept: dict[bytes, bytes] = client.hgetall("{vouchers}:codes")
        after: dict[str, Voucher] = {digest.decode(): read_voucher(raw) for digest, raw in kept.items()}
        assert {digest: voucher.owner for digest, voucher in after.items() if voucher.redeemed_at is not None} == digests
        events = [decode_voucher(message.value() or b"") for message in read_topic(here.kafka, VOUCHERS, 0, 0)]
        redemptions = {(event.data.digest, event.source) for event in events if isinstance(event, RedeemedEvent)}
        assert {(digest, owner.source) for digest, owner in digests.items()} <= redemptions
