"""The saturation curve as a picture: SVG, with nothing to run and nothing to load.

In: the steps of the curve. Out: the text of an SVG file; rates from left to right, the 99th percentile upwards on a logarithmic scale, the
goals as dashed lines in the colour of their kind, and what Eagle Eye publishes as a band.
"""

import math
from collections.abc import Iterator, Sequence

from loadtest.lane import GOALS_MS, KINDS, PUBLISHED_MS, Step

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 24, 48
COLOURS = {"identify": "#0b6e99", "quote": "#b45309", "receipt": "#4d7c0f"}
LEAST_MS, MOST_MS = 1.0, 3_000.0
LINES_MS = (1, 3, 10, 30, 100, 300, 1_000, 3_000)

HEAD = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" font-size="12">'
    f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
)


def picture(steps: Sequence[Step]) -> str:
    """The curve, from its first to its last step; needs one at least."""
    return HEAD + "".join([*axes(steps), *band(), *goals(), *(curve(kind, steps) for kind in KINDS)]) + "</svg>\n"


def axes(steps: Sequence[Step]) -> Iterator[str]:
    """Lines of equal latency, and the rates of the steps."""
    for ms in LINES_MS:
        yield line(LEFT, y_of(ms), WIDTH - RIGHT, y_of(ms), "#ddd")
        yield text(LEFT - 8, y_of(ms) + 4, f"{ms:,} ms", "#444", "end")
    for step in steps:
        x = x_of(step.per_s, steps)
        yield line(x, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 4, "#444")
        yield text(x, HEIGHT - BOTTOM + 18, f"{step.per_s:,.0f}", "#444", "middle")
    yield text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, "requests a second, all kinds", "#444", "middle")


def band() -> Iterator[str]:
    """What is published by others."""
    low, high = PUBLISHED_MS
    yield f'<rect x="{LEFT}" y="{y_of(high):.1f}" width="{WIDTH - LEFT - RIGHT}" height="{y_of(low) - y_of(high):.1f}" fill="#8884"/>'
    yield text(WIDTH - RIGHT + 8, (y_of(low) + y_of(high)) / 2 + 4, "Eagle Eye, average", "#666")


def goals() -> Iterator[str]:
    """What p99 may be."""
    for kind, ms in GOALS_MS.items():
        yield line(LEFT, y_of(ms), WIDTH - RIGHT, y_of(ms), COLOURS[kind], 'stroke-dasharray="4 4"')


def curve(kind: str, steps: Sequence[Step]) -> str:
    """One kind's percentiles, with its name at the end."""
    points = [(x_of(step.per_s, steps), y_of(step.p99_ms[kind])) for step in steps]
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{COLOURS[kind]}"/>' for x, y in points)
    end_x, end_y = points[-1]
    name = text(end_x + 8, end_y + 4 + 14 * (KINDS.index(kind) - 1), f"{kind} p99", COLOURS[kind])
    return f'<polyline points="{joined}" fill="none" stroke="{COLOURS[kind]}" stroke-width="2"/>{dots}{name}'


def x_of(per_s: float, steps: Sequence[Step]) -> float:
    """From the left edge, where the rate is 0, to the last step's."""
    return LEFT + per_s / steps[-1].per_s * (WIDTH - LEFT - RIGHT)


def y_of(ms: float) -> float:
    """Logarithmic; what is beyond the scale stands at its edge."""
    share = math.log(min(max(ms, LEAST_MS), MOST_MS) / LEAST_MS) / math.log(MOST_MS / LEAST_MS)
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def line(x1: float, y1: float, x2: float, y2: float, colour: str, more: str = "") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" {more}/>'


def text(x: float, y: float, words: str, colour: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}">{words}</text>'
