"""What can go wrong, as a tree:

    TillstreamError                  shown to the user as one line; never a traceback
      UsageError                     a bad argument, file or setting: exit status 2
        UnreachableError             a server that is not there; names the address and the setting
        ProgramError                 a program file with mistakes, all of them
        MappingError                 a mapping file with mistakes, all of them
        EndpointsError               a file of endpoints with mistakes, all of them
      CheckFailed                    a check ran and did not hold: exit status 1
"""

from tillstream.schemas.mistakes import InvalidMapping, Mistake
from tillstream.schemas.program_file import InvalidProgram


class TillstreamError(Exception):
    """Anything that the command line reports as one line; `exit_status` is the process's."""

    exit_status = 2


class UsageError(TillstreamError):
    """A bad argument, file or setting; the message names it and the fix."""


class UnreachableError(UsageError):
    """A server does not answer."""

    def __init__(self, what: str, address: str, setting: str) -> None:
        super().__init__(f"{what} does not answer at {address}; start it or change the setting {setting}")
        self.address = address
        self.setting = setting


class ProgramError(UsageError):
    """A program file with mistakes."""

    def __init__(self, path: str, invalid: InvalidProgram) -> None:
        lines = [f"{path}: {mistake}" for mistake in invalid.mistakes]
        super().__init__("\n".join(lines))
        self.mistakes = invalid.mistakes


class MappingError(UsageError):
    """A mapping file with mistakes."""

    def __init__(self, path: str, invalid: InvalidMapping) -> None:
        super().__init__("\n".join(f"{path}: {mistake}" for mistake in invalid.mistakes))
        self.mistakes = invalid.mistakes


class EndpointsError(UsageError):
    """A file of endpoints with mistakes."""

    def __init__(self, path: str, mistakes: list[Mistake]) -> None:
        super().__init__("\n".join(f"{path}: {mistake}" for mistake in mistakes))
        self.mistakes = mistakes


class CheckFailed(TillstreamError):
    """A check ran to its end and found something that does not hold."""

    exit_status = 1
