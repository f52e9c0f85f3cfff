"""Receipts out of nothing: seeded grocery sales, for demonstrations without the data set and for load.

In: a count, a seed, how many members and stores there are. Out: `receipt.sale` CloudEvents; `receipts` gives
dictionaries with the variety of a real shop, `fixed_size` gives ready JSON bytes of one size, cheaply.

The shop is Polish: Europe/Warsaw, PLN, amounts in grosze. The same arguments give the same events, to the byte, and a
larger count only appends: the first n receipts of a seed do not depend on how many are asked for. Receipts of different
seeds have different natural keys, so several producers, or several runs against one system, take a seed each.
"""

import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache, lru_cache
from itertools import accumulate
from random import Random
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import orjson

Event = dict[str, Any]
Line = dict[str, Any]

TIME_ZONE = "Europe/Warsaw"
CURRENCY = "PLN"
FIRST_DAY = date(2026, 3, 2)  # A Monday; the change to summer time falls into the fourth week.
OPENS_HOUR, CLOSES_HOUR = 6, 22  # No receipt at night, so no receipt in the hour the clock change skips or repeats.
GAP_MEAN_S = 20.0  # Mean seconds between two receipts: about 2,900 a day, one busy supermarket or a few small ones.

# exp(mu + sigma**2 / 2) is the mean of a log-normal, so these give 12 lines; the sigma is that of weekly shoppers mixed
# with people buying a sandwich.
LINES_MEAN, LINES_SIGMA = 12.0, 0.8
LINES_MU = math.log(LINES_MEAN) - LINES_SIGMA**2 / 2
LINES_MAX = 200  # The format allows 5,000; beyond this the tail only makes memory use erratic.

ANONYMOUS_SHARE = 0.10
DISCOUNT_SHARE = 0.20
GIFT_CARD_SHARE, SERVICE_SHARE, BAG_SHARE = 0.01, 0.01, 0.15  # Of receipts.
CARDS_CACHED_MAX = 131_072  # More than the members of any data set or load here; about 15 MB when full.

LOAD_BODIES = 256  # Different line lists in `fixed_size`: enough to defeat caches, built in milliseconds.


class Shelf(NamedTuple):
    """One category: prices in grosze (of a piece, or of a kilogram when weighed), and how often it is bought."""

    category: str
    brands: tuple[str, ...]
    price_min: int
    price_max: int
    weight: int
    weighed: bool = False
    bottles: bool = False
    kind: str = "item"


class Product(NamedTuple):
    sku: str
    brand: str
    price: int
    shelf: Shelf


SHELVES = (
    Shelf("produce/fruit/apples", ("Sad Dolny",), 299, 699, 8, weighed=True),
    Shelf("produce/fruit/bananas", ("Tropiko",), 449, 799, 9, weighed=True),
    Shelf("produce/vegetables/tomatoes", ("Zagroda", "Sad Dolny"), 599, 1999, 7, weighed=True),
    Shelf("bakery/bread", ("Piekarz", "Kłos"), 349, 1199, 11),
    Shelf("bakery/rolls", ("Piekarz", "Kłos"), 59, 249, 12),
    Shelf("dairy/milk", ("Łąka", "Biała"), 299, 599, 10),
    Shelf("dairy/cheese/hard", ("Łąka", "Alpina"), 599, 2999, 5),
    Shelf("dairy/cheese/cottage", ("Biała",), 299, 799, 6),
    Shelf("dairy/yoghurt", ("Biała", "Frutta"), 179, 549, 9),
    Shelf("dairy/eggs", ("Zagroda",), 799, 1699, 5),
    Shelf("meat/poultry", ("Kurnik",), 1599, 3499, 5, weighed=True),
    Shelf("meat/pork", ("Masarz",), 1799, 3999, 4, weighed=True),
    Shelf("meat/cold-cuts", ("Masarz", "Kurnik"), 499, 1599, 7),
    Shelf("fish/fresh", ("Bałtyk",), 2999, 7999, 2, weighed=True),
    Shelf("grocery/pasta", ("Nonna", "Kłos"), 349, 999, 5),
    Shelf("grocery/coffee", ("Arabika", "Poranek"), 1499, 5999, 3),
    Shelf("grocery/sweets/chocolate", ("Kakao", "Frutta"), 299, 1299, 8),
    Shelf("grocery/snacks", ("Chrupek",), 399, 999, 6),
    Shelf("frozen/vegetables", ("Mróz",), 499, 1299, 3),
    Shelf("drinks/water", ("Zdrój",), 149, 399, 8, bottles=True),
    Shelf("drinks/soft", ("Bąbel", "Zdrój"), 349, 999, 5, bottles=True),
    Shelf("alcohol/beer", ("Browar", "Chmiel"), 299, 799, 5, bottles=True),
    Shelf("alcohol/wine", ("Winnica",), 1999, 6999, 1),
    Shelf("tobacco/cigarettes", ("Dymek",), 1699, 2199, 2),
    Shelf("home/cleaning", ("Błysk",), 599, 2999, 3),
    Shelf("home/paper", ("Miękki",), 799, 2999, 3),
    Shelf("baby/nappies", ("Bobas",), 2999, 6999, 1),
    Shelf("pets/cat", ("Mruczek",), 199, 3999, 3),
)
SHELF_WEIGHTS = tuple(accumulate(shelf.weight for shelf in SHELVES))
PRODUCTS_PER_SHELF = 24
CATALOGUE_SEED = 590  # The assortment is the same for every seed: only who buys what, and when, differs.


def _extra(sku: str, category: str, price: int, kind: str) -> Product:
    """Something sold that is no goods, under one of the shop's own short numbers."""
    return Product(sku, "own", price, Shelf(category, ("own",), price, price, 0, kind=kind))


# The deposit is what the Polish deposit system asks for a can or a plastic bottle: one for each that is bought.
DEPOSIT = _extra("0000000000505", "deposit/bottle", 50, "deposit")
BAG = _extra("0000000000604", "fee/carrier-bag", 69, "fee")
PARCEL = _extra("0000000000703", "service/parcel", 1299, "service")
GIFT_CARD = _extra("0000000000802", "gift-card", 10_000, "gift_card")


def with_check_digit(body: str) -> str:
    """`body` and its GS1 check digit (weights 3 and 1 from the right; GS1 General Specifications, section 7.9).

    Raises ValueError where `body` is not a string of decimal digits.

    >>> with_check_digit("590123412345")
    '5901234123457'
    """
    if not (body.isascii() and body.isdigit()):
        raise ValueError(f"not a string of digits: {body!r}")
    total = sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(body)))
    return body + str(-total % 10)


@lru_cache(maxsize=CARDS_CACHED_MAX)
def card_number(holder: int) -> str:
    """The 13-digit card number of holder 0 ... 9,999,999,999, in the GS1 range 29, free for use inside a company.

    >>> card_number(900)
    '2900000009004'
    """
    if not 0 <= holder < 10**10:
        raise ValueError(f"a card holder has at most ten digits: {holder}")
    return with_check_digit(f"29{holder:010d}")


@cache
def catalogue() -> tuple[tuple[Product, ...], ...]:
    """The products of each shelf, in the order of `SHELVES`."""
    random = Random(CATALOGUE_SEED)
    shelves = []
    for number, shelf in enumerate(SHELVES):
        products = []
        for position in range(PRODUCTS_PER_SHELF):
            sku = with_check_digit(f"590{number:04d}{position:05d}")
            # Polish prices end in 9, and the draw is squared because most goods sit at the cheap end of a shelf.
            price = int(shelf.price_min + (shelf.price_max - shelf.price_min) * random.random() ** 2) // 10 * 10 + 9
            products.append(Product(sku, random.choice(shelf.brands), price, shelf))
        shelves.append(tuple(products))
    return tuple(shelves)


def receipts(count: int, seed: int, members: int = 2_000, stores: int = 8) -> Iterator[Event]:
    """`count` sales in the order of `issued_at`, as CloudEvents.

    Baskets are log-normal with a mean of 12 goods, to which deposits, bags, gift cards and services come; one receipt
    in ten is anonymous; some members come far more often than others. Raises ValueError where an argument is out of
    range.
    """
    _check(count, members, stores)
    random = Random(seed)
    clock = _opening_hours(random)
    for index in range(count):
        issued_at = next(clock)
        store_id = f"PL-{random.randrange(stores) + 1:04d}"
        register_id = str(random.randrange(6) + 1)
        lines = _lines(random)
        data: Event = {
            "receipt_id": f"{store_id}/{register_id}/{issued_at.date()}/{seed}-{index + 1:06d}",
            "store_id": store_id,
            "register_id": register_id,
            "business_date": issued_at.date().isoformat(),
            "issued_at": issued_at.isoformat(),
            "currency": CURRENCY,
        }
        if random.random() >= ANONYMOUS_SHARE:
            # The square makes the regulars: a tenth of the members issues about a third of the receipts.
            data["member"] = {"scheme": "card", "value": card_number(int(members * random.random() ** 2))}
        data["lines"] = lines
        tender = "cash" if random.random() < 0.25 else "card"
        data["tenders"] = [{"type": tender, "amount": sum(line["amount"] for line in lines)}]
        yield {
            "specversion": "1.0",
            "id": f"gen-{seed}-{index + 1}",
            "source": f"pos/{store_id}",
            "type": "receipt.sale",
            "time": data["issued_at"],
            "data": data,
        }


def fixed_size(count: int, seed: int, lines: int = 12, members: int = 100_000, stores: int = 400) -> Iterator[bytes]:
    """`count` sales as compact JSON bytes, what orjson would write: about 1.4 kB each with 12 lines, one every 20 ms.

    For load tests: the lists of lines come from a pool of 256 and every other field is filled into a template, so this
    yields far faster than anything downstream reads. Every receipt has a member and its own natural key; a line carries
    no brand, discount or kind, which keeps it so small. `lines` is 1 ... 5,000. Raises ValueError where an argument is
    out of range.
    """
    _check(count, members, stores)
    if not 1 <= lines <= 5_000:
        raise ValueError(f"a receipt has 1 ... 5,000 lines: {lines}")
    random = Random(seed)
    bodies = [_load_body(random, lines) for _ in range(LOAD_BODIES)]
    opened = datetime(FIRST_DAY.year, FIRST_DAY.month, FIRST_DAY.day, OPENS_HOUR, tzinfo=UTC)
    zone = ZoneInfo(TIME_ZONE)
    second, day, issued_at = -1, "", ""
    draw = random.random
    for index in range(count):
        if index // 50 != second:
            second = index // 50
            issued_at = (opened + timedelta(seconds=second)).astimezone(zone).isoformat()
            day = issued_at[:10]
        store, register = f"PL-{int(draw() * stores) + 1:04d}", index % 6 + 1
        yield (
            f'{{"specversion":"1.0","id":"load-{seed}-{index}","source":"pos/{store}","type":"receipt.sale",'
            f'"time":"{issued_at}","data":{{"receipt_id":"{store}/{register}/{day}/{seed}-{index:08d}","store_id":"{store}",'
            f'"register_id":"{register}","business_date":"{day}","issued_at":"{issued_at}","currency":"{CURRENCY}",'
            f'"member":{{"scheme":"card","value":"{card_number(int(draw() * members))}"}},"lines":'
        ).encode() + bodies[int(draw() * LOAD_BODIES)]


def _check(count: int, members: int, stores: int) -> None:
    if count < 0 or not 1 <= members <= 10**10 or not 1 <= stores <= 9_999:
        raise ValueError(f"count ≥ 0, members 1 ... 10^10, stores 1 ... 9,999: {count}, {members}, {stores}")


def _opening_hours(random: Random) -> Iterator[datetime]:
    """Times of day with exponential gaps, never ending, each with the offset that Warsaw has on that day."""
    zone = ZoneInfo(TIME_ZONE)
    day, open_s = FIRST_DAY, float((CLOSES_HOUR - OPENS_HOUR) * 3600)
    elapsed_s = 0.0
    while True:
        elapsed_s += random.expovariate(1 / GAP_MEAN_S)
        if elapsed_s >= open_s:
            day, elapsed_s = day + timedelta(days=1), 0.0
            continue
        opens = datetime(day.year, day.month, day.day, OPENS_HOUR, tzinfo=zone)
        yield opens + timedelta(seconds=int(elapsed_s))


def _lines(random: Random) -> list[Line]:
    """The lines of one basket: goods first, then what comes with them."""
    goods = min(LINES_MAX, max(1, round(random.lognormvariate(LINES_MU, LINES_SIGMA))))
    lines: list[Line] = []
    bottles = 0
    for _ in range(goods):
        product = random.choice(random.choices(catalogue(), cum_weights=SHELF_WEIGHTS)[0])
        if product.shelf.weighed:
            quantity_milli = random.randint(150, 2500)
        else:
            quantity_milli = 1000 * random.choice((1, 1, 1, 1, 1, 1, 2, 2, 3, 6))
            bottles += product.shelf.bottles * quantity_milli // 1000
        percent_off = random.choice((10, 20, 30, 40)) if random.random() < DISCOUNT_SHARE else 0
        lines.append(_line(len(lines) + 1, product, quantity_milli, percent_off))
    if bottles:
        lines.append(_line(len(lines) + 1, DEPOSIT, bottles * 1000))
    for share, extra in ((BAG_SHARE, BAG), (SERVICE_SHARE, PARCEL), (GIFT_CARD_SHARE, GIFT_CARD)):
        if random.random() < share:
            lines.append(_line(len(lines) + 1, extra, 1000))
    return lines


def _line(line_no: int, product: Product, quantity_milli: int, percent_off: int = 0) -> Line:
    """One line; what is weighed costs its price times its weight, half up to a grosz."""
    gross = (product.price * quantity_milli + 500) // 1000
    discount = gross * percent_off // 100
    return {
        "line_no": line_no,
        "sku": product.sku,
        "category": product.shelf.category,
        "brand": product.brand,
        "quantity_milli": quantity_milli,
        "amount": gross - discount,
        "discount": discount,
        "kind": product.shelf.kind,
    }


def _load_body(random: Random, lines: int) -> bytes:
    """The JSON of one list of lines, and what closes the event after it."""
    body = []
    for line_no in range(1, lines + 1):
        product = random.choice(random.choices(catalogue(), cum_weights=SHELF_WEIGHTS)[0])
        category = product.shelf.category.split("/", 1)[0]
        line: Line = {"line_no": line_no, "sku": product.sku, "category": category}
        body.append({**line, "quantity_milli": 1000, "amount": product.price})
    return orjson.dumps(body) + b"}}"
