"""What whoever publishes a version is told: what it asks for that is not known of the days before."""

import pytest

from tests.test_recounting import BASE, FIRST, HEAD, LATER
from tillstream.kernels.unseen import unseen
from tillstream.schemas.program_file import parse_program


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ('[[rules]]\nid = "n"\nmember = { visits = { days = 30, min = 3 } }\naward = { fixed = 1 }\nonce = "month"\n', []),
        (
            '[[rules]]\nid = "n"\nmember = { bought = { category = "dairy/**", within_days = 30 }, attributes = { city = ["Gdynia"] } }\n'
            "award = { fixed = 1 }\n",
            ["rule n: member.bought: no published", "rule n: member.attributes.city: no published"],
        ),
        (
            '[[rules]]\nid = "t"\non = "period_end"\ntarget = { per = "month" }\naward = { fixed = 1 }\n'
            '[[rules]]\nid = "b"\non = "birthday"\nmember = { segment = ["families"] }\naward = { fixed = 1 }\n',
            ["rule t: target: no published", "rule b: member.segment: no published", 'rule b: on = "birthday": no published'],
        ),
    ],
)
def test_publishing_tells_what_is_not_known_of_the_days_before(more: str, wanted: list[str]) -> None:
    first, later = parse_program(FIRST).program, parse_program(LATER + more).program
    assert [note[: len(start)] for note, start in zip(unseen([first], later), wanted, strict=True)] == wanted
    assert unseen([first, later], later) == unseen([], later) == []


def test_publishing_the_first_version_that_looks_at_members_tells_that_nothing_was_counted() -> None:
    plain, later = parse_program(HEAD + BASE).program, parse_program(LATER).program
    assert unseen([plain], later) == ["no published version looks at members: what they do is counted from now on"]
