"""The goods that features are about: those of an offer, as globs."""

from itertools import repeat
from typing import NamedTuple

from tillstream.kernels.globs import matches_glob


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

    @property
    def tops(self) -> frozenset[str]:
        """The top levels of the category globs that name one.

        >>> sorted(Goods((), ("dairy/cheese/**", "fuel", "**/bio")).tops)
        ['dairy', 'fuel']
        """
        return frozenset(top for top in (pattern.partition("/")[0] for pattern in self.category) if "*" not in top)


def matches(patterns: tuple[str, ...], name: str) -> bool:
    """Whether one of the globs matches."""
    return any(map(matches_glob, patterns, repeat(name)))


def top_of(category: str) -> str:
    """The top level of a category path."""
    return category.partition("/")[0]
