"""What the launcher hands to the process that serves: one typed value, as JSON on its command line."""

import dataclasses
import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """`socket_fd` is bound already and inherited; `url` is where clients reach it; times are in seconds."""

    args: tuple[str, ...]
    socket_fd: int
    url: str
    banner: str
    engine_log: str | None
    start_timeout: float
    drain_timeout: float
    drain_delay: float
    api_server_count: int

    def to_json(self) -> str:
        """The text that `from_json` takes."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """The job that `to_json` wrote."""
        fields = json.loads(text)
        return cls(**{**fields, "args": tuple(fields["args"])})
