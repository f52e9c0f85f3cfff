"""Page views under keys: the key of a page does what it is for and nothing else, and the page may read what is wrong with it."""

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from tests.gateway_harness import Said, ask
from tests.pipeline_harness import stage
from tests.test_clickstream import PAGE
from tests.test_gateway_security import Place, created
from tillstream.installation import GatewayProcess

SHOP = "https://shop.example.org"
PAGES = {"Origin": SHOP, "Content-Type": "text/plain;charset=UTF-8"}
VIEW = {"events": [{"name": "page_view", "params": PAGE}]}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("keys")
    with stage(folder) as here:
        tokens = {scope: created(here, "--scope", scope) for scope in ("clicks", "members", "admin")}
        config = replace(here.config, gateway_auth=True, gateway_origins=SHOP, gateway_rates="clicks=1/4")
        gateway = GatewayProcess(config, folder / "gateway")
        gateway.start()
        try:
            yield Place(here, gateway, tokens)
        finally:
            gateway.stop()


def send(place: Place, query: str, headers: dict[str, str]) -> Said:
    return ask(place.gateway.address, "POST", f"/v1/events{query}", VIEW, headers)


def test_key_of_a_page_sends_page_views_from_its_address_and_from_the_header(guarded: Place) -> None:
    assert send(guarded, f"?key={guarded.tokens['clicks']}", PAGES).body == {"accepted": 1, "refused": []}
    assert send(guarded, "", {"Authorization": f"Bearer {guarded.tokens['clicks']}"}).status == 202


def test_secret_keys_are_none_in_an_address_and_the_page_may_read_why(guarded: Place) -> None:
    for token in ("", "ts_0000000000000000_x", guarded.tokens["admin"], guarded.tokens["members"]):
        said = send(guarded, f"?key={token}", PAGES)
        assert (said.status, said.headers["access-control-allow-origin"]) == (401, SHOP)
    assert send(guarded, "", PAGES).status == 401
    assert send(guarded, "", {"Authorization": f"Bearer {guarded.tokens['admin']}"}).status == 202
    assert send(guarded, "", {"Authorization": f"Bearer {guarded.tokens['members']}"}).status == 403


def test_key_of_a_page_may_do_nothing_else(guarded: Place) -> None:
    key = guarded.tokens["clicks"]
    for path, body in (("/v1/identify", {"identity": {"scheme": "card", "value": "c"}}), ("/v1/members", {"data": {"member_id": "m"}})):
        assert guarded.post(path, body, key).status == 403
        assert ask(guarded.gateway.address, "POST", f"{path}?key={key}", body).status == 401


def test_preflight_and_snippet_need_no_key(guarded: Place) -> None:
    asks = {"Origin": SHOP, "Access-Control-Request-Method": "POST"}
    assert ask(guarded.gateway.address, "OPTIONS", "/v1/events", None, asks).status == 204
    assert ask(guarded.gateway.address, "GET", "/v1/snippet.js").status == 200


def test_pages_that_may_not_ask_leave_nothing_in_the_audit_log(guarded: Place) -> None:
    before = len(guarded.actions())
    assert guarded.post("/v1/members", {"data": {"member_id": "m"}}, guarded.tokens["members"], **PAGES).status == 403
    assert len(guarded.actions()) == before


def test_flood_under_a_page_s_key_is_bounded_and_told_to_its_page(guarded: Place) -> None:
    said = (send(guarded, f"?key={guarded.tokens['clicks']}", PAGES) for _ in range(100))
    refused = next(each for each in said if each.status != 202)
    assert (refused.status, refused.headers["retry-after"], refused.headers["access-control-allow-origin"]) == (429, "1", SHOP)
