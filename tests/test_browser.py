"""A real browser on a shop's pages, which load the snippet from the gateway under a strict content security policy."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest
from msgspec import structs

from tests.chromium import Chromium, chromium
from tests.pipeline_harness import PARTITIONS, Stage, stage, until
from tests.triggers import triggered
from tillstream.installation import GatewayProcess
from tillstream.schemas.clickstream import decode_click
from tillstream.streams.topics import CLICKSTREAM, TRIGGERS

pytestmark = pytest.mark.slow

CARD = "2901234567890"

SENT_S = 30.0

PAGE = """<!doctype html><html><head><title>{path}</title><script src="{gateway}/v1/snippet.js" data-key="public" {more}></script>
<script src="/shop.js" defer></script></head><body><button>into the cart</button><a href="/checkout">buy</a></body></html>"""

SCRIPT = """
const goods = {currency: "PLN", items: [{item_id: "5901234123457", item_category: "dairy/cheese", price: 15.99, quantity: 2}]};
document.querySelector("button").onclick = () => {
  ts.member = {scheme: "card", value: "%s"};
  ts.track("add_to_cart", goods);
};
document.querySelector("a").onclick = () => ts.track("begin_checkout", goods);
"""

WATCH = """
const send = navigator.sendBeacon;
navigator.sendBeacon = function (address, body) {
  localStorage.beacons = JSON.stringify([...JSON.parse(localStorage.beacons || "[]"), body]);
  return send.call(this, address, body);
};
"""
"""Notes the beacons where the next page finds them; DevTools does not tell of those that a page sends as it goes."""

LISTEN = """
new Promise((open) => {
  window.heard ||= [];
  window.offers = new EventSource(%r + (window.last || ""));
  offers.onmessage = ({ data, lastEventId }) => { last = lastEventId; heard.push(JSON.parse(data).decision_id); };
  offers.onopen = offers.onerror = () => open(0);
})
"""

ASK = "fetch(%r, {method: 'POST', body: '{}', headers: %s}).then((answer) => `read ${answer.status}`, String)"


class Pages(ThreadingHTTPServer):
    """A shop: every path is a page; those that begin with `/asked` say that their visitors were asked."""

    daemon_threads = True
    gateway = ""

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Shelf(BaseHTTPRequestHandler):
    """Answers of a shop."""

    server: Pages

    def do_GET(self) -> None:
        gateway = self.server.gateway
        more = "data-ignore=signals" if self.path.startswith("/asked") else ""
        is_script = self.path.startswith("/shop.js")
        body = SCRIPT % CARD if is_script else PAGE.format(path=self.path, gateway=gateway, more=more)
        self.send_response(200)
        self.send_header("Content-Type", "text/javascript" if is_script else "text/html")
        self.send_header("Content-Security-Policy", f"default-src 'none'; script-src 'self' {gateway}; connect-src {gateway}")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        """Nothing is told to the terminal."""


class Place(NamedTuple):
    """A gateway, a shop on its list, one that is not, and a browser."""

    stage: Stage
    gateway: str
    shop: Pages
    other: Pages
    browser: Chromium

    def visit(self, address: str) -> str:
        """Somebody new goes to a page; gives their `visitor_id`."""
        origin = "/".join(address.split("/")[:3])
        self.browser.go("about:blank")
        self.browser.call("Storage.clearDataForOrigin", origin=origin, storageTypes="local_storage")
        self.browser.events.clear()
        self.browser.go(address)
        return str(self.browser.evaluate("localStorage._ts.split(' ')[0]"))

    def stored(self, visitor: str) -> list[dict[str, Any]]:
        """What stands on the topic of a visitor, in order."""
        values = [message.value() or b"" for message in self.stage.records(CLICKSTREAM, PARTITIONS) if message.key() == visitor.encode()]
        return [json.loads(value) for value in values if decode_click(value)]

    def arrived(self, visitor: str, count: int) -> list[dict[str, Any]]:
        """The same, when so many have come."""
        until(lambda: len(self.stored(visitor)) >= count, f"{count} events of {visitor}", SENT_S)
        return self.stored(visitor)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("browser")
    at = ("127.0.0.1", 0)
    with chromium(folder) as browser, stage(folder) as here, Pages(at, Shelf) as shop, Pages(at, Shelf) as other:
        gateway = GatewayProcess(structs.replace(here.config, gateway_origins=shop.origin), folder / "gateway")
        gateway.start()
        threads = [threading.Thread(target=pages.serve_forever, args=(0.05,)) for pages in (shop, other)]
        try:
            for pages, thread in zip((shop, other), threads, strict=True):
                pages.gateway = gateway.address
                thread.start()
            yield Place(here, gateway.address, shop, other, browser)
        finally:
            for pages, thread in zip((shop, other), threads, strict=True):
                pages.shutdown()
                thread.join()
            gateway.stop()


def test_visit_stands_on_the_topic_sealed_and_in_order(place: Place) -> None:
    browser, origin = place.browser, place.shop.origin
    visitor = place.visit(f"{origin}/cheese")
    browser.evaluate("history.pushState({}, '', '/cheese/gouda')")
    browser.evaluate("document.querySelector('button').click()")
    place.arrived(visitor, 3)
    browser.evaluate("document.querySelector('a').click()")  # What is tracked as the page goes away leaves by a beacon, or is lost.
    stored = place.arrived(visitor, 5)
    assert [(event["type"], event["data"]["page_location"].removeprefix(origin)) for event in stored] == [
        ("web.page_view", "/cheese"), ("web.page_view", "/cheese/gouda"), ("web.add_to_cart", "/cheese/gouda"),
        ("web.begin_checkout", "/cheese/gouda"), ("web.page_view", "/checkout"),
    ]  # fmt: skip
    assert [event["data"].get("page_referrer") for event in stored] == ["", f"{origin}/cheese", None, None, f"{origin}/cheese/gouda"]
    assert {event["source"] for event in stored} == {f"web/{origin.removeprefix('http://')}"}
    assert len({event["id"] for event in stored}) == 5
    assert len({event["data"]["session_id"] for event in stored}) == 1
    assert [event["time"] for event in stored] == sorted(event["time"] for event in stored)
    assert stored[2]["data"]["items"] == [{"item_id": "5901234123457", "item_category": "dairy/cheese", "price": 15.99, "quantity": 2}]
    members = [event["data"].get("member", {}).get("value", "") for event in stored]
    assert [value[:8] for value in members] == ["", "", "blake2b:", "blake2b:", ""]
    assert CARD not in json.dumps(stored)


def test_last_click_leaves_by_a_beacon(place: Place) -> None:
    browser = place.browser
    visitor = place.visit(f"{place.shop.origin}/bread")
    for attempt in range(1, 6):  # On a busy machine the page may stand longer than its events wait.
        browser.evaluate(WATCH)
        browser.evaluate("ts.track('view_item', {items: []}); location.href = '/bread?away'")
        browser.go(f"{place.shop.origin}/bread?{attempt}")
    until(lambda: [event["type"] for event in place.stored(visitor)].count("web.view_item") == 5, "all clicks", SENT_S)
    beacons = [json.loads(body)["events"] for body in json.loads(browser.evaluate("localStorage.beacons"))]
    assert "view_item" in {event["name"] for events in beacons for event in events}


def test_page_of_an_origin_that_is_not_listed_is_refused_by_the_browser(place: Place) -> None:
    browser, address = place.browser, f"{place.gateway}/v1/events?key=public"
    visitor = place.visit(f"{place.other.origin}/cheese")
    assert browser.evaluate(ASK % (address, "{}")) == "TypeError: Failed to fetch"
    assert browser.evaluate(ASK % (address, "{'Content-Type': 'application/json'}")) == "TypeError: Failed to fetch"
    said = [text for text in browser.said() if "CORS" in text]
    assert any("preflight" in text for text in said), said
    browser.evaluate("dispatchEvent(new PageTransitionEvent('pagehide'))")
    later = place.visit(f"{place.shop.origin}/cheese")
    assert browser.evaluate(ASK % (address, "{'Content-Type': 'application/json'}")) == "read 422"
    place.arrived(later, 1)
    assert place.stored(visitor) == []


def test_whoever_asks_not_to_be_followed_is_not_unless_the_page_says_so(place: Place) -> None:
    browser = place.browser
    wish = "Object.defineProperty(Navigator.prototype, 'globalPrivacyControl', {value: true})"
    script = browser.call("Page.addScriptToEvaluateOnNewDocument", source=wish)["identifier"]
    try:
        visitor = place.visit(f"{place.shop.origin}/asked")
        browser.go(f"{place.shop.origin}/milk")
        browser.evaluate("ts.track('search', {search_term: 'milk'})")
        browser.evaluate("localStorage.clear()")
        browser.go(f"{place.shop.origin}/milk?more")
        browser.evaluate("ts.track('search', {search_term: 'milk'})")
        assert browser.evaluate("localStorage.length") == 0
        assert [event["data"]["page_title"] for event in place.arrived(visitor, 1)] == ["/asked"]
    finally:
        browser.call("Page.removeScriptToEvaluateOnNewDocument", identifier=script)


def test_what_could_not_be_sent_is_sent_again_and_once(place: Place) -> None:
    browser = place.browser
    visitor = place.visit(f"{place.shop.origin}/wine")
    place.arrived(visitor, 1)
    conditions = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.call("Network.emulateNetworkConditions", offline=True, **conditions)
    browser.evaluate("ts.track('search', {search_term: 'port'}), new Promise((done) => setTimeout(done, 1000))")
    assert len(place.stored(visitor)) == 1
    browser.call("Network.emulateNetworkConditions", offline=False, **conditions)
    assert [event["data"].get("search_term") for event in place.arrived(visitor, 2)] == [None, "port"]


def test_nothing_of_it_is_against_the_pages_policy(place: Place) -> None:
    place.arrived(place.visit(f"{place.shop.origin}/cheese"), 1)
    assert [text for text in place.browser.said() if "Security" in text or "violat" in text] == []


def test_page_hears_its_visitors_offers_and_goes_on_behind_the_last_id(place: Place) -> None:
    browser = place.browser
    visitor = place.visit(f"{place.shop.origin}/offers")
    address = f"{place.gateway}/v1/triggers/page?key=public&visitor={visitor}&after="
    browser.evaluate(LISTEN % address)
    place.stage.send([triggered("b1", visitor_id=visitor), triggered("b2", visitor_id="somebody else")], TRIGGERS, "a1")
    until(lambda: browser.evaluate("heard") == ["b1"], "the offer", SENT_S)
    browser.evaluate("offers.close()")
    place.stage.send([triggered("b3", visitor_id=visitor)], TRIGGERS, "a2")
    browser.evaluate(LISTEN % address)
    until(lambda: browser.evaluate("heard") == ["b1", "b3"], "what came meanwhile, and nothing twice", SENT_S)
    browser.evaluate("offers.close()")
    browser.go(f"{place.other.origin}/offers")
    browser.evaluate(LISTEN % address)
    until(lambda: browser.evaluate("offers.readyState") == 2, "a page that is not listed is refused", SENT_S)
