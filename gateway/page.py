"""The OpenAPI document as a page for people, made on the server: no script, nothing from elsewhere."""

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f23; background: #fff; }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin: 2.5rem 0 .2rem; border-top: 1px solid #d0d7de; padding-top: 1rem }
code { font: .9em ui-monospace, monospace; background: #f0f2f4; padding: .1em .3em; border-radius: 3px }
table { border-collapse: collapse; margin: .5rem 0 } td, th { text-align: left; vertical-align: top; padding: .2rem 1rem .2rem 0 }
th { font-weight: 600 } .scope { float: right; color: #57606a } a { color: #0550ae }
@media (prefers-color-scheme: dark) { body { color: #e6edf3; background: #0d1117 } code { background: #21262d } h2 { border-color: #30363d }
 a { color: #79c0ff } .scope { color: #8b949e } }
"""


def page(document: Mapping[str, Any]) -> str:
    """The whole page."""
    info = document["info"]
    title = f"{info['title']} v{info['version']}"
    return "".join(
        [
            "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
            f"<title>{escape(title)}</title><style>{STYLE}</style><h1>{escape(title)}</h1><p>{words(info['description'])}</p>",
            "<p>For machines: <a href='/openapi.json'>/openapi.json</a></p>",
            *(operation(path, method, said) for path, methods in document["paths"].items() for method, said in methods.items()),
            *(schema(name, said) for name, said in sorted(document["components"]["schemas"].items())),
        ]
    )


def operation(path: str, method: str, said: Mapping[str, Any]) -> str:
    """One endpoint: what it takes and what it answers."""
    scope = f"<span class=scope>scope {escape(said['x-scope'])}</span>" if "x-scope" in said else ""
    body = said.get("requestBody", {}).get("content", {})
    rows = [
        *((f"{item['in']} <code>{escape(item['name'])}</code>", words(item.get("description", ""))) for item in said["parameters"]),
        *(("body", types(content["schema"])) for content in body.values()),
        *((escape(status), " or ".join(answers(answer))) for status, answer in said["responses"].items()),
    ]
    return (
        f"<h2 id='{escape(said['operationId'])}'>{scope}<code>{method.upper()} {escape(path)}</code></h2>"
        f"<p>{words(said['summary'])}</p>{table(rows)}"
    )


def answers(answer: Mapping[str, Any]) -> Iterator[str]:
    """What one status brings, by content type."""
    for kind, content in answer["content"].items():
        yield f"{types(content['schema'])} <small>{escape(kind)}</small>"


def schema(name: str, said: Mapping[str, Any]) -> str:
    """One type: its fields."""
    required = said.get("required", [])
    rows = [
        (f"<code>{escape(field)}</code>{'' if field in required else ' <small>optional</small>'}", types(kind))
        for field, kind in said.get("properties", {}).items()
    ]
    return f"<h2 id='type-{escape(name)}'>{escape(name)}</h2><p>{words(said.get('description', ''))}</p>{table(rows)}"


def types(said: Mapping[str, Any]) -> str:
    """A schema in a few words, with links to the types that it names."""
    if "$ref" in said:
        name = escape(said["$ref"].rpartition("/")[2])
        return f"<a href='#type-{name}'>{name}</a>"
    for several in ("oneOf", "anyOf"):
        if several in said:
            return " or ".join(types(part) for part in said[several])
    if "enum" in said:
        return " | ".join(f"<code>{escape(str(value))}</code>" for value in said["enum"])
    if said.get("type") == "array":
        return f"list of {types(said.get('items', {}))}"
    bounds = [f"{word} {said[key]}" for key, word in (("minimum", "from"), ("maximum", "to"), ("maxLength", "at most")) if key in said]
    kind = said.get("format") or said.get("type") or "anything"
    return escape(" ".join([str(kind), *bounds]))


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Two columns; nothing where there are no rows."""
    cells = "".join(f"<tr><th>{left}</th><td>{right}</td></tr>" for left, right in rows)
    return f"<table>{cells}</table>" if cells else ""


def words(text: str) -> str:
    """Text with `code` marked."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))
