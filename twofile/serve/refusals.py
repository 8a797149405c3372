"""What a request is told that cannot be answered, in the words of each API."""

import re

from ..errors import Busy, ModelError

KINDS = {  # status: OpenAI's type, Anthropic's
    400: ("invalid_request_error", "invalid_request_error"),
    401: ("authentication_error", "authentication_error"),
    403: ("permission_error", "permission_error"),
    404: ("invalid_request_error", "not_found_error"),
    405: ("invalid_request_error", "invalid_request_error"),
    408: ("invalid_request_error", "timeout_error"),
    413: ("invalid_request_error", "request_too_large"),
    429: ("rate_limit_error", "rate_limit_error"),
    500: ("server_error", "api_error"),
    503: ("server_error", "overloaded_error"),
}
LONG = re.compile(r"leave no room in a context|[1-9][\d,]* tokens( or more)?, expected 1 to")
NAMED = re.compile(r"(?:field )?([a-z_]+)(?:: | is |\[)")


class Refused(Exception):
    """A request that is not answered. param: the field that is to blame. retry: seconds after
    which it may be."""

    def __init__(self, status, message, param=None, code=None, retry=None):
        super().__init__(message)
        self.status, self.message, self.param = status, message, param
        self.code, self.retry = code, retry


def refusal(error, fields=()):
    """What an exception is to a client -> Refused. fields: names that a message may begin with."""
    if isinstance(error, Refused):
        return error
    message = str(error)
    if isinstance(error, Busy):
        return Refused(429, message, code="queue_full", retry=1)
    if not isinstance(error, ModelError):
        return Refused(500, "the server failed; expected an answer; its log says why")
    if "the model was closed" in message or "reading was ended" in message:
        return Refused(503, "the server is ending; expected a running one; ask again", retry=5)
    if "NaN or infinity" in message:
        return Refused(500, message, code="not_finite")
    named = NAMED.match(message)
    param = named[1] if named and named[1] in fields else None
    code = "context_length_exceeded" if LONG.search(message) else None
    return Refused(400, message, param, code)


def dialect(path):
    """Whose words an address speaks."""
    if path.startswith("/v1/messages"):
        return "anthropic"
    return "ollama" if path.startswith("/api/") else "openai"


def told(refused, path, request_id=None):
    """A Refused as the object that clients of the API of an address expect."""
    ours, theirs = KINDS.get(refused.status, KINDS[400])
    how = dialect(path)
    if how == "anthropic":
        error = {"type": theirs, "message": refused.message}
        return {"type": "error", "error": error, "request_id": request_id}
    if how == "ollama":
        return {"error": refused.message}
    about = {"type": ours, "param": refused.param, "code": refused.code}
    return {"error": {"message": refused.message, **about}}
