"""Which poster judges a program: one that looks at each receipt alone, or one that looks at members."""

from tillstream.kernels.member_poster import MemberPoster
from tillstream.kernels.member_rules import looks_at_members
from tillstream.kernels.posting import Poster
from tillstream.kernels.room import Budgets
from tillstream.schemas.program_file import Versioned


def poster_for(program: Versioned, budgets: Budgets | None = None) -> Poster:
    """The poster for a program; `budgets` None: this process sees every receipt."""
    return MemberPoster(program, budgets) if looks_at_members(program.program) else Poster(program)
