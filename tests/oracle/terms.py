"""`member = {...}`: an account as the events before made it, and the moment that is judged, in; whether all conditions hold, out."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from tests.oracle.calendar import Interval, period_of, window_of
from tests.oracle.facts import Account, Event, Moment, Purchase
from tests.reference import eligible


def member_terms_hold(terms: dict[str, Any], account: Account, moment: Moment) -> bool:
    person = moment.person or next(iter([*reversed(account.said), *account.published]), "")
    enrolled = account.said.get(person, {})
    attributes = enrolled.get("attributes", {})
    segments = [*attributes.get("segments", []), *(name for names in account.all_published(person).values() for name in names)]
    checks: dict[str, Callable[[Any], bool]] = {
        "tier": lambda want: moment.tier in want,
        "kind": lambda want: enrolled.get("kind", "consumer") in want,
        "segment": lambda want: any(segment in want for segment in segments),
        "attributes": lambda want: fields_match(want, attributes),
        "first_purchase": lambda want: want == (not any(not sale.voided for sale in earlier(account, moment))),
        "bought": lambda want: has_bought(want, account, moment),
        "visits": lambda want: within(want, sum(not sale.gone for sale in sales_in(account, window_of(moment.day, want)))),
        "spend": lambda want: within(want, sum(sale.spend for sale in sales_in(account, window_of(moment.day, want)))),
        "streak": lambda want: has_streak(want, account, moment),
    }
    return all(checks[key](want) for key, want in terms.items())


def fields_match(wanted: dict[str, list[Any]], there: Event) -> bool:
    """Each named field equals one of its values; true is not 1."""
    return all(any(same(there[name], value) for value in values) if name in there else False for name, values in wanted.items())


def same(one: object, other: object) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def within(window: dict[str, Any], count: int) -> bool:
    return window.get("min", 0) <= count and ("max" not in window or count <= window["max"])


def earlier(account: Account, moment: Moment) -> Iterator[Purchase]:
    """Sales before the event; its own, if it is one, already stands among the account's purchases."""
    return (sale for sale in account.all_purchases if sale is not moment.purchase)


def sales_in(account: Account, interval: Interval) -> Iterator[Purchase]:
    """Sales of these local dates so far, the judged one included."""
    first, last = interval
    return (sale for sale in account.all_purchases if first <= sale.day <= last)


def has_bought(terms: dict[str, Any], account: Account, moment: Moment) -> bool:
    """An earlier line matches all given keys, and something of it did not come back."""
    first, goods = moment.day - timedelta(days=terms["within_days"]), goods_of(terms)
    return any(
        any(sale.left(sale.data["lines"][i]))
        for sale in earlier(account, moment)
        if first <= sale.day <= moment.day
        for i in eligible({"lines": goods}, sale.data["lines"])
    )


def goods_of(terms: dict[str, Any]) -> dict[str, list[str]]:
    return {key: [want] if isinstance(want, str) else want for key, want in terms.items() if key != "within_days"}


def has_streak(terms: dict[str, Any], account: Account, moment: Moment) -> bool:
    weeks = [period_of(moment.day - timedelta(weeks=ago), "week") for ago in range(terms["weeks"])]
    return all(sum(not sale.gone for sale in sales_in(account, week)) >= terms.get("visits", 1) for week in weeks)
