"""The goods that features are about: those of an offer, as globs."""

from collections.abc import Iterable, Sequence
from itertools import compress, repeat
from typing import NamedTuple

from tillstream.kernels.globs import matches_glob
from tillstream.schemas.program_offers import OfferGoods


class Goods(NamedTuple):
    """Goods by globs, of which one must match each; without any, all goods. `category` paths as receipts have them."""

    sku: tuple[str, ...] = ()
    category: tuple[str, ...] = ()

    def has_sku(self, sku: str, category: str) -> bool:
        """Whether goods are among them; `category` is '' where it is not known.

        >>> Goods(("59*",), ("dairy/**",)).has_sku("5901", "dairy/cheese"), Goods(("59*",)).has_sku("5901", "")
        (True, True)
        """
        return matches(self.sku, sku) and self.has_category(category)

    def has_category(self, category: str) -> bool:
        """Whether goods of a category are among them."""
        return not self.category or matches(self.category, category)

    def among(self, categories: Iterable[str]) -> Sequence[str]:
        """Those of some categories that are among them, in their order."""
        if len(self.category) != 1:
            return [category for category in categories if self.has_category(category)]
        return list(compress(names := list(categories), map(matches_glob, repeat(self.category[0]), names)))

    @property
    def tops(self) -> frozenset[str]:
        """The top levels of the category globs that name one.

        >>> sorted(Goods((), ("dairy/cheese/**", "fuel", "**/bio")).tops)
        ['dairy', 'fuel']
        """
        return frozenset(top for top in (pattern.partition("/")[0] for pattern in self.category) if "*" not in top)


def goods_of(goods: OfferGoods) -> Goods:
    """An offer's goods."""
    return Goods(tuple(goods.sku or ()), tuple(goods.category or ()))


def matches(patterns: tuple[str, ...], name: str) -> bool:
    """Whether one of the globs matches."""
    return any(map(matches_glob, patterns, repeat(name)))


def top_of(category: str) -> str:
    """The top level of a category path."""
    return category.partition("/")[0]
