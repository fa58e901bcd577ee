"""Hugging Face and ModelScope on a loopback port, as far as their client libraries need them to fetch a model.

One server answers for both: the paths differ. It can break off in the middle of a file, and be silent.
"""

import hashlib
import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """What it holds, by model id and path, and what was asked of it."""

    models: dict[str, dict[str, bytes]]
    port: int = 0
    # After so many bytes of the weights the connection ends; None: no fault. `for_good`: nor is the rest given later.
    breaks_after: int | None = None
    for_good: bool = False
    silent: threading.Event = field(default_factory=threading.Event)
    # (path, value of the Range header) of each file asked for with GET.
    fetched: list[tuple[str, str | None]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Server(ThreadingHTTPServer):
    """A client that goes away in the middle of an answer is part of the tests, and no reason to print a trace."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serve(hub: FakeHub) -> Iterator[FakeHub]:
    """Run it until the end of the block."""
    server = Server(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": hub}))
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        hub.silent.clear()
        server.shutdown()
        server.server_close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    """The few routes."""

    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        while self.hub.silent.is_set():
            threading.Event().wait(0.05)
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), parse_qs(parts.query)
        if match := re.fullmatch(r"/api/v1/models/([^/]+/[^/]+)/repo(/files)?", path):
            self.modelscope(match[1], query, listing=bool(match[2]), with_body=with_body)
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+?)(?:/(revision|tree)/(.+))?", path):
            self.huggingface_api(match[1], match[2], match[3])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.file(match[1], match[3], with_body)
        else:
            self.send(404, b"{}")

    def huggingface_api(self, model: str, kind: str | None, revision: str | None) -> None:
        files = self.hub.models.get(model)
        if files is None:
            return self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        if revision not in (None, "main", "refs/pr/1", COMMIT):
            return self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if kind == "tree":
            rows = [
                {"type": "file", "path": path, "size": len(data), "oid": git_oid(data)} for path, data in files.items()
            ]
            return self.send(200, json.dumps(rows).encode())
        siblings = [{"rfilename": path, "size": len(data), "blobId": git_oid(data)} for path, data in files.items()]
        return self.send(200, json.dumps({"id": model, "sha": COMMIT, "siblings": siblings}).encode())

    def modelscope(self, model: str, query: dict[str, list[str]], listing: bool, with_body: bool) -> None:
        files = self.hub.models.get(model)
        if files is None or query["Revision"] != ["master"]:
            return self.send(404, json.dumps({"Code": 10010205001, "Message": "not found", "Success": False}).encode())
        if not listing:
            return self.file(model, query["FilePath"][0], with_body)
        rows = [
            {"Path": path, "Name": path, "Type": "blob", "Size": len(data), "Sha256": hashlib.sha256(data).hexdigest()}
            for path, data in files.items()
        ]
        return self.send(200, json.dumps({"Code": 200, "Success": True, "Data": {"Files": rows}}).encode())

    def file(self, model: str, path: str, with_body: bool) -> None:
        """A file or the rest of it from where the Range header says."""
        data = self.hub.models[model][path]
        wanted = self.headers.get("Range")
        begin = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
        headers = {"ETag": f'"{git_oid(data)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if wanted:
            headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        if not with_body:
            return self.send(200, b"", headers | {"Content-Length": str(len(data))})
        self.hub.fetched.append((path, wanted))
        limit = self.hub.breaks_after if path.endswith(".safetensors") else None
        if limit is not None and wanted:
            if self.hub.for_good:
                return self.send(503, b"")
            limit = None
        return self.send(206 if wanted else 200, data[begin:], headers, limit)

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None, limit: int | None = None) -> None:
        self.send_response(status)
        for name, value in (
            {"Content-Type": "application/json", "Content-Length": str(len(body))} | (headers or {})
        ).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:limit])
        if limit is not None:
            self.close_connection = True


def git_oid(data: bytes) -> str:
    """The name that git gives a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
