"""The lift and the calibration of a proof as pictures: SVG, with nothing to run and nothing to load."""

from collections.abc import Iterator, Sequence

from tillstream.audience.proof import Proof, Tenth

WIDTH, HEIGHT = 560, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 24, 48
BLUE, GREY, DARK = "#0b6e99", "#ddd", "#444"
LINES = 4
"""Lines of equal value across a picture."""

HEAD = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="system-ui, sans-serif" '
    f'font-size="12"><rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
)


def lift_picture(proof: Proof) -> str:
    """A bar per tenth: how many times the share of all joined; the line at 1 is chance, the strokes are intervals of 95 %."""
    most = max(tenth.high for tenth in proof.tenths) / proof.share
    return HEAD + "".join([*grid(most, "times chance"), *bars(proof.tenths, proof.share, most), *chance(most)]) + "</svg>"


def calibration_picture(proof: Proof) -> str:
    """A point per tenth: its mean score to the right, the share that joined upwards; on the diagonal scores are what they say."""
    most = max(max(tenth.high, tenth.score) for tenth in proof.tenths)
    diagonal = line(LEFT, y_of(0, most), WIDTH - RIGHT, y_of(most, most), GREY)
    scale = (text(x_of(most * n / LINES, most), HEIGHT - BOTTOM + 18, number(most * n / LINES), "middle") for n in range(LINES + 1))
    words = text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, "mean score", "middle")
    return HEAD + "".join([*grid(most, "share that joined"), diagonal, *points(proof.tenths, most), *scale, words]) + "</svg>"


def grid(most: float, name: str) -> Iterator[str]:
    """Lines of equal value with their numbers, and the name of the scale."""
    for step in range(LINES + 1):
        value = most * step / LINES
        yield line(LEFT, y_of(value, most), WIDTH - RIGHT, y_of(value, most), GREY)
        yield text(LEFT - 8, y_of(value, most) + 4, number(value), "end")
    yield text(LEFT - 52, TOP - 10, name)


def bars(tenths: Sequence[Tenth], share: float, most: float) -> Iterator[str]:
    """The lift of each tenth with its interval."""
    width = (WIDTH - LEFT - RIGHT) / len(tenths)
    for place, tenth in enumerate(tenths):
        x, y = LEFT + place * width, y_of(tenth.lift, most)
        yield f'<rect x="{x + 4:.1f}" y="{y:.1f}" width="{width - 8:.1f}" height="{y_of(0, most) - y:.1f}" fill="{BLUE}"/>'
        yield line(x + width / 2, y_of(tenth.low / share, most), x + width / 2, y_of(tenth.high / share, most), DARK)
        yield text(x + width / 2, HEIGHT - BOTTOM + 18, str(tenth.decile), "middle")
    yield text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, "tenth of the candidates by score, 1 the highest", "middle")


def chance(most: float) -> Iterator[str]:
    """The line at which a model knows nothing."""
    yield line(LEFT, y_of(1, most), WIDTH - RIGHT, y_of(1, most), DARK, 'stroke-dasharray="4 4"')


def points(tenths: Sequence[Tenth], most: float) -> Iterator[str]:
    """Score and share of each tenth, with the interval of the share."""
    for tenth in tenths:
        x = x_of(tenth.score, most)
        yield line(x, y_of(tenth.low, most), x, y_of(tenth.high, most), DARK)
        yield f'<circle cx="{x:.1f}" cy="{y_of(tenth.share, most):.1f}" r="4" fill="{BLUE}"/>'


def x_of(value: float, most: float) -> float:
    """From the left edge, where 0 is."""
    return LEFT + value / most * (WIDTH - LEFT - RIGHT)


def y_of(value: float, most: float) -> float:
    """Upwards; 0 is at the bottom."""
    return HEIGHT - BOTTOM - value / most * (HEIGHT - TOP - BOTTOM)


def number(value: float) -> str:
    return f"{value:.3g}"


def line(x1: float, y1: float, x2: float, y2: float, colour: str, more: str = "") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" {more}/>'


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{DARK}" text-anchor="{anchor}">{words}</text>'
