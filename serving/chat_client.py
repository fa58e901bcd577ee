"""The HTTP side of `xuanyuan chat`. Standard library only, so that it starts at once."""

import json
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

from serving.errors import ConfigError, ServingError
from serving.sse import Event, events

LOOPBACK = {"localhost", "127.0.0.1", "::1"}
CONNECT_SECONDS = 10
# How long a stream may be silent. A busy CPU server may take minutes to reach a long prompt; Ctrl-C ends the wait.
SILENCE_SECONDS = 600


@dataclass(frozen=True)
class Model:
    """One row of /v1/models. `context` is vLLM's max_model_len, in tokens, where the server tells."""

    name: str
    context: int | None


@dataclass(frozen=True)
class Chunk:
    """What one event of a chat stream adds: text, the reason why it ended, or how many tokens the answer took."""

    text: str = ""
    finish_reason: str | None = None
    completion_tokens: int | None = None


@dataclass(frozen=True)
class Server:
    """A running server. `url` is its root, such as http://127.0.0.1:8000; one that ends in /v1 means the same."""

    url: str
    api_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        root = self.url.rstrip("/").removesuffix("/v1")
        if not is_url(root):
            raise ConfigError(f'--url: expected something like http://127.0.0.1:8000, got "{self.url}"')
        object.__setattr__(self, "url", root)

    def models(self) -> list[Model]:
        """What the server serves. Raises ServingError when there is none, it refuses, or it is no such server."""
        with self._open("/v1/models", None, CONNECT_SECONDS) as response:
            try:
                rows = json.load(response)["data"]
                return [Model(str(row["id"]), row.get("max_model_len")) for row in rows]
            except (ValueError, LookupError, TypeError, AttributeError, OSError, HTTPException):
                raise ServingError(f"{self.url} answers, but not as an OpenAI-compatible server does") from None

    def chat(self, body: Mapping[str, Any]) -> Generator[Chunk, None, None]:
        """Stream one answer. Raises ServingError when the server refuses, reports an error, or is cut off."""
        stream = {"stream": True, "stream_options": {"include_usage": True}}
        with self._open("/v1/chat/completions", {**body, **stream}, SILENCE_SECONDS) as response:
            yield from chunks(events(received(response)))

    def _open(self, path: str, body: Mapping[str, Any] | None, timeout: float) -> HTTPResponse:
        headers = {"Content-Type": "application/json"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        data = None if body is None else json.dumps(body).encode()
        try:
            response: HTTPResponse = self.opener.open(Request(self.url + path, data, headers), timeout=timeout)
        except HTTPError as error:
            with error:
                raise ServingError(refusal(error)) from None
        except URLError as error:
            reason = describe(error.reason)
            raise ServingError(f"no server at {self.url}: start one with `make serve` ({reason})") from None
        except (OSError, HTTPException) as error:
            raise ServingError(f"{self.url} took the request and gave no answer ({describe(error)})") from None
        return response

    @cached_property
    def opener(self) -> OpenerDirector:
        """What opens requests to this server."""
        # A proxy from the environment cannot reach this machine's own loopback.
        proxies: dict[str, str] | None = {} if urlsplit(self.url).hostname in LOOPBACK else None
        return build_opener(ProxyHandler(proxies), KeepToServer())


def is_url(text: str) -> bool:
    """Whether `text` is an http(s) URL with a host and, if it has one, a possible port."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


class KeepToServer(HTTPRedirectHandler):
    """Follows no redirect: urllib would turn the POST into a GET and hand the key to whatever host it is sent to."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def received(response: HTTPResponse) -> Iterator[bytes]:
    """The body's bytes as they come. Raises ServingError if the connection breaks."""
    try:
        while data := response.read1():
            yield data
    except (OSError, HTTPException) as error:
        raise ServingError(f"the connection was cut in the middle of the answer ({describe(error)})") from None


def chunks(stream: Iterable[Event]) -> Iterator[Chunk]:
    """The chunks of a chat stream up to [DONE]. Some servers leave it out: an answer with a finish_reason is whole."""
    ended = False
    for event in stream:
        if event.data == "[DONE]":
            return
        chunk = parse(event)
        ended = ended or chunk.finish_reason is not None
        yield chunk
    if not ended:
        raise ServingError("the connection was cut in the middle of the answer")


def parse(event: Event) -> Chunk:
    """One event as a chunk. Raises ServingError for an error event, and for one that is no chat chunk."""
    try:
        message = json.loads(event.data)
        if event.type == "error" or message.get("error"):
            raise ServingError(f"the server broke off the answer: {error_text(message)}")
        usage = message.get("usage") or {}
        choice: dict[str, Any] = next(iter(message["choices"]), {})
        text = choice.get("delta", {}).get("content") or ""
        return Chunk(str(text), choice.get("finish_reason"), usage.get("completion_tokens"))
    except (ValueError, LookupError, TypeError, AttributeError):
        raise ServingError(f"the server sent what is no part of a chat answer: {event.data[:200]}") from None


def refusal(error: HTTPError) -> str:
    """The server's own words for a status that is not 200, with its Retry-After and the key's remedy."""
    try:
        text = error.read(100_000).decode("utf-8", "replace").strip()
    except (OSError, HTTPException):
        text = ""
    try:
        text = error_text(json.loads(text))
    except ValueError:
        text = text[:500] or error.reason
    hints = []
    if wait := error.headers.get("Retry-After"):
        hints.append(f"try again in {wait} s" if wait.isdigit() else f"try again after {wait}")
    if error.code == 401:
        hints.append("give a key with --api-key-file or XUANYUAN_API_KEY")
    if location := error.headers.get("Location"):
        hints.append(f"it has moved to {location}")
    return f"the server refused ({error.code}): {text}" + "".join(f"; {hint}" for hint in hints)


def error_text(message: Any) -> str:
    """The text of an error body: {"error": {"message": …}} as OpenAI's, {"error": …}, {"detail": …}, or all of it."""
    if isinstance(message, dict):
        for key in ("error", "message", "detail"):
            if message.get(key):
                return error_text(message[key])
    return message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)


def describe(error: object) -> str:
    """A network error in a few words: without its number, and with a name where it has no text of its own."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
