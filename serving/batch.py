"""An offline batch against a running server: many requests at a time, each answer written down as it comes.

vLLM has a batch runner of its own. It keeps all answers in memory until the last and writes them then, so that all are
lost when it is interrupted, and it knows no /v1/completions. So the requests go through the server, under its limits.
"""

import json
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from http.client import HTTPException
from itertools import islice
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import OpenerDirector, Request

from serving.batch_file import Item, output_line
from serving.chat_client import describe
from serving.errors import ServingError

ANSWER_SECONDS = 1800  # how long an answer may take
LOST_SECONDS = 60  # how long a server may be gone
BUSY = (429, 503)
LONGEST_PAUSE = 30.0
REPORT_SECONDS = 5.0


@dataclass(frozen=True)
class Outcome:
    """What became of one request: the line for the output, and what went wrong, or ''."""

    line: str
    failure: str


Answer = Future[Outcome | None]


@dataclass
class Batch:
    """Asks `url` with `key`. `stopping` ends it early; `report` gets a line of progress now and then."""

    url: str
    key: str | None
    opener: OpenerDirector
    report: Callable[[str], None]
    stopping: threading.Event = field(default_factory=threading.Event)
    heard_at: float = field(default_factory=time.monotonic)

    def run(self, items: list[Item], concurrency: int, write: Callable[[str], None], done: int = 0) -> int:
        """Ask for all of `items`; `done` were answered before. Returns how many failed.

        Raises ServingError, and KeyboardInterrupt once what was in flight then is written down.
        """
        progress = Progress(done + len(items), done, self.report)
        waiting = iter(items)
        running: set[Answer] = set()

        def settle() -> None:
            for answer in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
                if outcome := answer.result():
                    write(outcome.line)
                    progress.count(outcome.failure)
                running.discard(answer)
            progress.tell()

        with ThreadPoolExecutor(concurrency) as pool:
            try:
                while True:
                    for item in islice(waiting, concurrency - len(running)):
                        running.add(pool.submit(self.ask, item))
                    if not running:
                        break
                    settle()
            except KeyboardInterrupt:
                self.stopping.set()
                signal.signal(signal.SIGINT, signal.SIG_DFL)  # threads that wait for an answer heed nothing else
                self.report(f"Stopping: waiting for the {len(running):,} in flight. Ctrl-C again gives them up.")
                while running:
                    settle()
                raise
            finally:
                self.stopping.set()
                progress.tell(end=True)
        return progress.failed

    def ask(self, item: Item) -> Outcome | None:
        """One request, asked again while the server is busy or away for a moment. Raises ServingError.

        None: the batch was stopped before there was an answer.
        """
        pause = 0.5
        while not self.stopping.is_set():
            try:
                status, headers, body = self.send(item)
            except (OSError, HTTPException) as error:
                if time.monotonic() - self.heard_at > LOST_SECONDS:
                    reason = describe(error.reason if isinstance(error, URLError) else error)
                    message = f"{self.url} is gone ({reason}). What was answered is kept: run the same command to go on"
                    raise ServingError(message) from None
            else:
                self.heard_at = time.monotonic()
                if status not in BUSY:
                    line = output_line(item, status=status, request_id=headers.get("x-request-id", ""), body=body)
                    return Outcome(line, "" if status == 200 else why(item, status, body))
                asked = headers.get("retry-after", "")
                pause = max(pause, float(asked) if asked.isdigit() else 0)
            self.stopping.wait(min(pause, LONGEST_PAUSE))
            pause = min(pause * 2, LONGEST_PAUSE)
        return None

    def send(self, item: Item) -> tuple[int, Any, Any]:
        """Status, headers and body of an answer. Raises OSError or HTTPException where there is none."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        request = Request(self.url + item.url, json.dumps(item.body).encode(), headers)
        try:
            response = self.opener.open(request, timeout=ANSWER_SECONDS)
        except HTTPError as refused:
            response = refused
        with response:
            return response.status, response.headers, document(response.read())


def document(text: bytes) -> Any:
    """The JSON of an answer; what is none, as text."""
    try:
        return json.loads(text)
    except ValueError:
        return text.decode("utf-8", "replace")


def why(item: Item, status: int, body: Any) -> str:
    """Which request failed, and what the server said of it."""
    error = body.get("error") if isinstance(body, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return f"{item.custom_id}: HTTP {status}" + (f", {str(message)[:200].rstrip('.')}" if message else "")


class Progress:
    """How far a batch is."""

    def __init__(self, total: int, done: int, report: Callable[[str], None]) -> None:
        self.total, self.done, self.failed = total, done, 0
        self.first_failure = ""
        self.report = report
        self.begun = self.told = time.monotonic()
        self.before = done

    def count(self, failure: str) -> None:
        """One more; `failure` says what went wrong, or is ''."""
        self.done += 1
        self.failed += bool(failure)
        self.first_failure = self.first_failure or failure

    def tell(self, *, end: bool = False) -> None:
        """Say it, if the last time was a while ago."""
        now = time.monotonic()
        if not end and now - self.told < REPORT_SECONDS:
            return
        self.told = now
        speed = (self.done - self.before) / max(now - self.begun, 0.001)
        left = "" if end or not speed else f", about {(self.total - self.done) / speed:.0f} s left"
        answered = self.done - self.failed
        self.report(f"{answered:,} of {self.total:,} answered, {self.failed:,} failed, {speed:.1f}/s{left}")
        if end and self.first_failure:
            self.report(
                f"The first that failed: {self.first_failure}. Run the same command to try the failed ones again"
            )
