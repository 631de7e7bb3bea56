"""`--max-in-flight-bytes`: how many bytes of bodies and answers may be in memory. Nothing is read beyond that.

A line counts from when it is read until its record is written; its answer counts from when it is whole. One line more
than fits may be there, because its size is known only once it is read: so a line of any size is sent.
"""

from __future__ import annotations

import asyncio
from collections import deque


class InFlightBytes:
    """The bytes of bodies and answers that are in memory, at most `most` and one line."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0
        self._is_closed = False
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def is_full(self) -> bool:
        """Whether no further line may be read now."""
        return self.held >= self.most and not self._is_closed

    @property
    def holds_back(self) -> bool:
        """Whether a worker waits to read a line."""
        return bool(self._waiters)

    async def room(self) -> None:
        """Wait until a line may be read, first come, first served."""
        while self.is_full:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(turn)
            try:
                await turn
            finally:
                if turn in self._waiters:
                    self._waiters.remove(turn)

    def add(self, size: int) -> None:
        """So many bytes more are in memory; 0 if no line was left to read, which the next that waits finds out, too."""
        self.held += size
        if self._waiters and not self.is_full:
            self._wake(1)

    def remove(self, size: int) -> None:
        """So many bytes are done with."""
        self.held -= size
        if self._waiters and not self.is_full:
            self._wake(1)

    def close(self) -> None:
        """The run is stopping: nobody waits any more, and nothing more is read."""
        self._is_closed = True
        self._wake(len(self._waiters))

    def _wake(self, count: int) -> None:
        while count and self._waiters:
            turn = self._waiters.popleft()
            if not turn.done():
                turn.set_result(None)
                count -= 1
