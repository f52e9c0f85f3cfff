"""What an HTTP caller is told when something cannot be done: problem details (RFC 9457).

`code` is the kind of fault, the same words as in dead letters; `path` names the field, as `$.data.lines[3].amount`.
"""

from http import HTTPStatus

from msgspec import Struct, structs

from tillstream.schemas.events import Malformed

PROBLEM_JSON = "application/problem+json"

RETRY_AFTER_S = 1
"""When a till may ask again after a 503: a failover takes seconds, and asking costs little."""

CONFLICT = "conflict"

STATUS_OF_CODE = {CONFLICT: 409, "not_json": 400, "too_deep": 400, "too_large": 413, "forbidden": 403, "outdated": 409}
"""HTTP's status for the codes that have one of their own; all others are 422."""


class Problem(Struct, frozen=True, omit_defaults=True):
    """The body of every answer that is an error."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    path: str | None = None
    request_id: str | None = None


class Refusal(Exception):
    """Ends a request with a problem; `headers` go with the answer."""

    def __init__(self, problem: Problem, headers: dict[str, str] | None = None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.headers = headers or {}


def problem(status: int, code: str, detail: str, path: str | None = None) -> Problem:
    """A problem of one of our codes; its title is HTTP's word for the status."""
    return Problem(f"urn:tillstream:problem:{code}", HTTPStatus(status).phrase, status, detail, code, path)


def problem_of(malformed: Malformed) -> Problem:
    """What a dead letter would say of an event.

    >>> problem_of(Malformed("currency", "$.data.currency", "EUR is not the program's PLN")).status
    422
    """
    return problem(STATUS_OF_CODE.get(malformed.code, 422), malformed.code, malformed.message, malformed.path)


def refusal(malformed: Malformed) -> Refusal:
    return Refusal(problem_of(malformed))


def unavailable(what: str) -> Refusal:
    """A server behind us does not answer: the caller keeps what it has and asks again."""
    detail = f"{what} does not answer; nothing is lost: send the same again"
    return Refusal(problem(503, "unavailable", detail), {"Retry-After": str(RETRY_AFTER_S)})


def named(known: Problem, request_id: str) -> Problem:
    """The problem with the request's id, by which the log has it."""
    return structs.replace(known, request_id=request_id)
