"""`--max-in-flight-bytes`: how many bytes of bodies and answers may be in memory. Nothing is read beyond that.

A line counts from when it is read until its record is written; its answer counts from when it is whole. One line more
than fits may be there, because its size is known only once it is read: so a line of any size is sent.
"""

from __future__ import annotations


class InFlightBytes:
    """The bytes of bodies and answers that are in memory, at most `most` and one line."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0
        self._is_closed = False

    @property
    def is_full(self) -> bool:
        """Whether no further line may be read now."""
        return self.held >= self.most and not self._is_closed

    @property
    def holds_back(self) -> bool:
        """Whether no line is read for want of room."""
        return self.is_full

    def add(self, size: int) -> None:
        """So many bytes more are in memory."""
        self.held += size

    def remove(self, size: int) -> None:
        """So many bytes are done with."""
        self.held -= size

    def close(self) -> None:
        """The run is stopping: nothing more is read."""
        self._is_closed = True
