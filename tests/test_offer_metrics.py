"""What Prometheus is told of offers: decisions, and the reasons against those that were not made."""

from typing import get_args
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tillstream.embedded.process import HOST, free_port
from tillstream.errors import UsageError
from tillstream.kernels.offering import Reason
from tillstream.streams.figures import serve
from tillstream.streams.offer_metrics import OfferMetrics
from tillstream.streams.stats import Stats
from tillstream.worker import check_metrics_address


def told(address: str) -> dict[tuple[str, str, str], float]:
    """What is served: (metric, offer, the other label) -> count."""
    with urlopen(f"http://{address}/metrics") as answer:
        text = answer.read().decode()
    return {
        (sample.name, sample.labels.pop("offer"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_tell_decisions_refusals_and_answers_as_they_stand_when_asked() -> None:
    stats, address = Stats(), f"{HOST}:{free_port()}"
    serve(OfferMetrics(stats).registry, address)
    assert told(address) == {}
    for what in ("treated", "treated", "control", "cap_member", "bought", "returned"):
        stats.count_offer("cheese", what)
    stats.count_offer('a "strange" name\n', "no_model")
    assert told(address) == {
        ("tillstream_offer_decisions_total", "cheese", "treated"): 2,
        ("tillstream_offer_decisions_total", "cheese", "control"): 1,
        ("tillstream_offer_refusals_total", "cheese", "cap_member"): 1,
        ("tillstream_offer_refusals_total", 'a "strange" name\n', "no_model"): 1,
        ("tillstream_offer_answers_total", "cheese", "bought"): 1,
        ("tillstream_offer_answers_total", "cheese", "returned"): 1,
    }
    stats.count_offer("cheese", "treated")
    assert told(address)["tillstream_offer_decisions_total", "cheese", "treated"] == 3


@pytest.mark.parametrize("reason", get_args(Reason))
def test_metrics_tell_every_reason_as_a_refusal(reason: str) -> None:
    stats = Stats()
    stats.count_offer("cheese", reason)
    (sample,) = [sample for family in OfferMetrics(stats).collect() for sample in family.samples]
    assert (sample.name, sample.labels["reason"]) == ("tillstream_offer_refusals_total", reason)


def test_metrics_address_that_is_taken_or_not_ours_is_refused_in_one_line() -> None:
    address = f"{HOST}:{free_port()}"
    check_metrics_address("offers_metrics", "")
    check_metrics_address("offers_metrics", address)
    serve(OfferMetrics(Stats()).registry, address)
    for wrong in (address, "192.0.2.1:9465", f"{HOST}:99999"):
        with pytest.raises(UsageError, match=f"offers_metrics: {wrong} can't be listened on"):
            check_metrics_address("offers_metrics", wrong)
