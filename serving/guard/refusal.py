"""What the guard says when it does not let a request through: OpenAI's error body, inside a stream as an event."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

# OpenAI's error types, by status; what is not named here is a bad request.
TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


@dataclass(eq=False)
class Refusal(Exception):
    """A request ends here. Any layer raises it; the layer Errors turns it into an answer.

    `code` is for machines, and is what metrics and the access line call the reason. `message` says what to do; it never
    holds a key or text of a prompt. `param` is the field of the body that is at fault.
    """

    status: int
    code: str
    message: str
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        """The error as JSON. The outer `type` is what Anthropic's clients look for; OpenAI's ignore it."""
        kind = TYPES.get(self.status) or ("server_error" if self.status >= 500 else "invalid_request_error")
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return json.dumps({"error": error, "type": "error"}, ensure_ascii=False).encode()

    def event(self, *, named: bool) -> bytes:
        """The error as one server-sent event, for a stream that has begun."""
        return (b"event: error\n" if named else b"") + b"data: " + self.body + b"\n\n"


def retry_after(seconds: float) -> dict[str, str]:
    """The header that says when to come back: whole seconds, at least one."""
    return {"retry-after": str(max(1, int(-(-seconds // 1))))}


# Answers for what the server did wrong: never more than this, the log has the rest.
CUT_OFF = Refusal(500, "stream_cut_off", "The answer ended before it was complete: the engine stopped. Ask again.")
INTERNAL = Refusal(
    500, "internal_error", "The server failed on this request. Its log has the reason under the request id."
)
