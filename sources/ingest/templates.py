"""Templates: text in which `{name}` stands for a field; `{{` and `}}` are braces.

>>> parse("{store}/{number}").names
('store', 'number')
"""

import re
from functools import lru_cache
from typing import NamedTuple

TOKEN = re.compile(r"\{\{|\}\}|\{([a-zA-Z][a-zA-Z0-9_]*)\}|[{}]|[^{}]+")


class BadTemplate(ValueError):
    """A brace that stands alone, or something else than a name in braces."""


class Template(NamedTuple):
    """Pieces of text, and the field that follows each but the last."""

    texts: tuple[str, ...]
    names: tuple[str, ...]


@lru_cache(maxsize=4096)  # A mapping has some tens of templates; the bound is for a process that reads many.
def parse(text: str) -> Template:
    """The template in `text`.

    Raises:
        BadTemplate: braces that are no field.
    """
    texts, names = [""], []
    for match in TOKEN.finditer(text):
        piece = match[0]
        if match[1] is not None:
            names.append(match[1])
            texts.append("")
        elif piece in {"{", "}"}:
            raise BadTemplate(f"a single {piece!r} in {text!r}")
        else:
            texts[-1] += piece[:1] if piece in {"{{", "}}"} else piece
    return Template(tuple(texts), tuple(names))
