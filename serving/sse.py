"""Server-sent events out of a byte stream: https://html.spec.whatwg.org/multipage/server-sent-events.html"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")


class Event(NamedTuple):
    """One event: its type ("message" unless the stream says otherwise) and its data lines, joined by newlines."""

    type: str
    data: str


def lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Whole lines, without their ends. Bytes are decoded a line at a time: chunks may split characters anywhere."""
    pending = b""
    for chunk in chunks:
        # A "\r" at the very end waits: a "\n" may follow it in the next chunk.
        *whole, pending = LINE_END.split(pending + chunk)
        for line in whole:
            yield line.decode("utf-8", "replace")


def events(chunks: Iterable[bytes]) -> Iterator[Event]:
    """The events of a stream. Comments and unknown fields are skipped; an event cut off before its end is dropped."""
    kind, data = "message", list[str]()
    for line in lines(chunks):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield Event(kind, "\n".join(data))
            kind, data = "message", []
        elif field == "data":
            data.append(value)
        elif field == "event":
            kind = value
