"""Server-sent events: bytes in, events out.

Contract: `EventDecoder` does no I/O and knows nothing of JSON or of the Responses API. The events are the
same however the bytes are cut into chunks, and the work is linear in their number. A line may have any length:
the terminal event of a stream can repeat a request of several megabytes in one line.
Rules: WHATWG HTML §9.2 "Server-sent events" (https://html.spec.whatwg.org/multipage/server-sent-events.html),
applied to bytes, so a UTF-8 sequence may be cut anywhere. Four rules are our own, for gateways as they are:
an event left open at the end of the stream is delivered, an event with empty data is not (a keep-alive of
that form must not look like progress), a line that starts with `{` is an event by itself, and comments count.
"""

from __future__ import annotations

from typing import NamedTuple

_BOM = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """One event: `name` is its `event:` field ("" if it had none), `data` its data lines joined by LF."""

    name: str
    data: bytes


class EventDecoder:
    """Turns the chunks of one stream into events; one decoder serves one stream."""

    def __init__(self) -> None:
        self._name = ""
        self._data: list[bytes] = []  # the data lines of the open event
        self._tail: list[bytes] = []  # the pieces of a line whose end has not come
        self._at_start = True
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[Event]:
        """Take the next bytes of the stream; return the events they complete, in order."""
        return self._take(self._lines(chunk))

    def flush(self) -> list[Event]:
        """Return what the end of the stream leaves open; call it once, after the last `feed`.

        WHATWG drops an event without its closing blank line. Some gateways omit that line after the last
        event, and the last event is the one with the answer. It may be torn: the JSON in it will tell.
        """
        return self._take([*self._lines(b"\n"), b""])

    def _lines(self, chunk: bytes) -> list[bytes]:
        """Return the lines that `chunk` completes, without their ends; keep the rest for the next call."""
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")  # the second half of a CRLF that fell between two chunks
            self._after_cr = False
        if not chunk:
            return []
        lines = chunk.splitlines()  # on bytes: LF, CR and CRLF only, as in the standard
        self._after_cr = chunk.endswith(b"\r")
        tail = b"" if chunk.endswith((b"\n", b"\r")) else lines.pop()
        if lines and self._tail:
            lines[0] = b"".join([*self._tail, lines[0]])
            self._tail.clear()
        if tail:
            self._tail.append(tail)
        if lines and self._at_start:
            lines[0] = lines[0].removeprefix(_BOM)
            self._at_start = False
        return lines

    def _take(self, lines: list[bytes]) -> list[Event]:
        """Interpret whole lines; the tests stand in the order of how often they hold."""
        events: list[Event] = []
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            elif not line:
                self._close_event(events)
            elif line.startswith(b"event:"):
                self._name = line[6:].removeprefix(b" ").decode("utf-8", "replace")
            elif line.startswith(b":"):
                continue  # a comment: relays ping with them, so they show life but no progress
            elif line.startswith(b"{"):
                # No field starts so. A relay that has committed status 200 with a ping has no other way
                # left to report an error than its bare JSON body.
                self._close_event(events)
                events.append(Event("", line))
            elif line == b"data":
                self._data.append(b"")
            elif line == b"event":
                self._name = ""
            # The rest is `id`, `retry` (we do not reconnect: a second POST costs again) or no known field.
        return events

    def _close_event(self, events: list[Event]) -> None:
        """Add the open event to `events` unless its data is empty; open the next one."""
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        if data:
            events.append(Event(self._name, data))
        self._name = ""
        self._data.clear()
