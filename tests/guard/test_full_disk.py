"""Logs that cannot be written, in process: /dev/full has no room for anybody."""

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from serving.engine_log import WholeLog
from serving.log import log, step
from tests.guard.conftest import Growth, Guarded
from tests.guard.stub import Call, chat

FULL = Path("/dev/full")
pytestmark = [pytest.mark.anyio, pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")]


def full() -> io.TextIOWrapper:
    """A file on a full disk. Nothing is kept for later, so that it can be closed."""
    return io.TextIOWrapper(io.FileIO(FULL, "w"), write_through=True)  # type: ignore[type-var]


@contextmanager
def full_console(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Standard error goes there."""
    with patch.context() as within, full() as console:
        within.setattr(sys, "stderr", console)
        yield


async def test_access_lines(
    guarded: Guarded, counted: Growth, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = guarded(log_format="console")
    counted("xuanyuan_log_failures_total")
    with full_console(monkeypatch):
        calls = [await Call(guard, body=chat(stream=True)).start().done() for _ in range(3)]
    assert all(call.status == 200 and call.content.endswith(b"[DONE]\n\n") for call in calls)
    assert counted("xuanyuan_log_failures_total") == 3
    (said,) = (record.getMessage() for record in caplog.records)
    assert "access lines cannot be written ([Errno 28] No space left on device)" in said


async def test_access_lines_that_can_be_written_again(
    guarded: Guarded, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = guarded(log_format="console")
    for disk in (full_console(monkeypatch), full_console(monkeypatch), nullcontext(), full_console(monkeypatch)):
        with disk:
            await Call(guard, body=chat()).start().done()
    assert len(caplog.records) == 2


def test_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    with full_console(monkeypatch):
        log("x")
        with step("y"):
            pass


def test_the_engines_log(capsys: pytest.CaptureFixture[str]) -> None:
    with full() as file:
        handler = WholeLog(file)
        for place in range(3):
            handler.emit(logging.LogRecord("vllm", logging.INFO, "", 0, f"line {place}", None, None))
    assert capsys.readouterr().err == (
        "The engine's log cannot be written ([Errno 28] No space left on device): the server goes on without it.\n"
    )
