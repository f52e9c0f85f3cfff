"""What was found, and how good it is, on one page: HTML with pictures in it, or the same figures as JSON."""

from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

import orjson

from tillstream.audience.files import replace_file
from tillstream.audience.pictures import calibration_picture, lift_picture
from tillstream.audience.proof import Proof
from tillstream.errors import UsageError

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #ddd}"
    "td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto}"
)

SUFFIXES = (".html", ".json")


def check_report(path: str | None) -> None:
    """Raises UsageError where a report is asked for in no form that there is."""
    if path is not None and Path(path).suffix not in SUFFIXES:
        raise UsageError(f"report {path}: ends in neither .html nor .json; rename it")


def write_report(path: Path, summary: dict[str, Any], proof: Proof) -> None:
    """Writes the report; its name says in which form."""
    if path.suffix == ".json":
        replace_file(path, orjson.dumps(summary, option=orjson.OPT_INDENT_2) + b"\n")
    else:
        replace_file(path, page(summary, proof).encode())


def page(summary: dict[str, Any], proof: Proof) -> str:
    """The report as HTML."""
    title = escape(f"Audience {summary['name']} as of {summary['as_of']}")
    times = f"{proof.tenths[0].lift:g} times" if proof.tenths else ""
    parts = [
        f"<p>The first tenth of the candidates joined <b>{times}</b> as often as all of them. AUC {proof.auc:g} "
        f"({proof.low:g} to {proof.high:g}), proved by {escape(summary['method'])} on {proof.candidates} candidates, "
        f"of whom {proof.joined} joined. Log loss {proof.log_loss:g}; of the base rate in its place {proof.log_loss_base:g}.</p>",
        "<h2>Who</h2>", table(("", ""), facts(summary)),
        "<h2>Lift by tenths</h2>", lift_picture(proof),
        table(proof.tenths[0]._fields, proof.tenths) if proof.tenths else "",
        "<h2>Calibration</h2>", calibration_picture(proof),
        "<h2>What weighs most</h2><p>Change of the log odds by one standard deviation of the feature.</p>",
        table(("feature", "weight"), ((item["feature"], item["weight"]) for item in summary["drivers"])),
    ]  # fmt: skip
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return f"{head}<h1>{title}</h1>{''.join(parts)}</html>\n"


def facts(summary: dict[str, Any]) -> Iterable[tuple[str, object]]:
    """The summary's counts in words."""
    seed = summary["seed"]
    yield f"seed: {seed['kind']} {seed['what']}", f"{seed['accounts']} accounts"
    yield "scored", f"{summary['scored']} accounts"
    yield "in the audience", f"{summary['audience']} members"
    for reason, count in summary["left_out"].items():
        yield f"left out: {reason.replace('_', ' ')}", count


def table(names: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A table."""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
