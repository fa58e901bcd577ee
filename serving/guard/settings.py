"""Every setting of the guard, once: name, type, default, meaning. Flags, environment names and docs come from here."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from serving.errors import ConfigError

PREFIX = "XUANYUAN_"
BOOLEANS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
READERS: dict[Any, tuple[Callable[[str], Any], str]] = {
    bool: (BOOLEANS.__getitem__, "yes or no"),
    int: (int, "a whole number"),
    float: (float, "a number"),
}


def setting(default: Any, text: str, *, choices: tuple[str, ...] = (), least: float = 0) -> Any:
    """A dataclass field with its help text, its choices where these are a closed set, and the least a number may be."""
    return field(default=default, metadata={"help": text, "choices": choices, "least": least})


@dataclass(frozen=True)
class GuardSettings:
    """What the guard does. Times are in seconds. Raises ConfigError on a value out of range."""

    keys_file: str | None = setting(None, "file of hashed API keys (`xuanyuan keys add`); unset: no key is asked for")
    allow_anonymous: bool = setting(False, "without a keys file, also serve clients on other machines")
    allowed_origins: str = setting("", "origins that browsers may call from, comma-separated; empty: no CORS headers")
    page: bool = setting(True, "the chat page at /; --no-page: the API alone")
    log_format: str = setting("console", "the access line of each request", choices=("console", "json", "none"))

    max_body_bytes: int = setting(1 << 20, "largest request body in bytes", least=1)
    body_timeout: float = setting(30.0, "a request body must have arrived after this long", least=0.001)
    max_json_depth: int = setting(32, "deepest nesting of a JSON body", least=1)
    max_json_values: int = setting(65536, "most values in a JSON body", least=1)
    max_n: int = setting(32, "most answers to one request: n (or best_of) times the prompts in it", least=1)
    max_tokens: int = setting(0, "most tokens a request may ask for in an answer; 0: the context is the limit")
    max_logprobs: int = setting(20, "most log probabilities a request may ask for at each token")

    requests_per_minute: int = setting(0, "requests a minute of a key that sets no limit of its own; 0: no limit")
    tokens_per_minute: int = setting(0, "prompt and completion tokens a minute, likewise")
    max_concurrent_requests: int = setting(0, "requests at a time of a key in one server process, likewise")
    rate_limit_storage: str = setting(
        "memory://", "where rates are counted: memory://, each server process by itself; redis://HOST:PORT, all"
    )
    rate_limit_failure: str = setting(
        "open", "while Redis is gone: open serves uncounted, closed refuses", choices=("open", "closed")
    )

    max_num_seqs: int = setting(0, "answers the engine generates at a time; 0: unknown, so the queue is not bounded")
    api_server_count: int = setting(1, "server processes that share the engine", least=1)
    max_queue_seconds: float = setting(30.0, "a request that would start later than this is refused")
    max_queued_requests: int = setting(256, "most answers that wait for the engine in one server process")
    max_queued_tokens: int = setting(262144, "most prompt tokens that wait for the engine in one server process")

    first_token_timeout: float = setting(120.0, "a stream whose first token takes longer is ended; 0: no limit")
    request_timeout: float = setting(600.0, "a request that takes longer in all is ended; 0: no limit")
    ready_probe_seconds: float = setting(30.0, "/ready asks an idle engine for one token at most this often")
    ready_probe_timeout: float = setting(30.0, "how long that token may take", least=0.001)

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value, choices, least = getattr(self, item.name), item.metadata["choices"], item.metadata["least"]
            if choices and value not in choices:
                raise ConfigError(f"{item.name}={value!r}: expected one of {', '.join(choices)}")
            if isinstance(value, int | float) and not least <= value < math.inf:
                raise ConfigError(f"{item.name}={value!r}: expected a number of {least} or more")

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins of `allowed_origins`, one by one."""
        return tuple(origin.strip() for origin in self.allowed_origins.split(",") if origin.strip())

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "GuardSettings":
        """Read XUANYUAN_<FIELD> for every field; what is unset keeps its default. Raises ConfigError."""
        given = {
            item: environ[name] for item in dataclasses.fields(cls) if (name := environ_name(item.name)) in environ
        }
        return cls(**{item.name: parse(item, text) for item, text in given.items()})


def environ_name(name: str) -> str:
    """The environment variable of a field."""
    return PREFIX + name.upper()


def parse(item: "dataclasses.Field[Any]", text: str) -> Any:
    """The value of one field from its text. Raises ConfigError that names the variable."""
    if item.type not in READERS:
        return text if item.type is str else text or None
    read, expected = READERS[item.type]
    try:
        return read(text.strip().lower())
    except (KeyError, ValueError):
        raise ConfigError(f"{environ_name(item.name)}={text!r}: expected {expected}") from None
