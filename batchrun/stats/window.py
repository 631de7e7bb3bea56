"""How many of the last values were hits."""

from __future__ import annotations

from collections import deque


class Window:
    """The last `size` values, each a hit or not. `hits` counts the hits among them."""

    def __init__(self, size: int) -> None:
        self.hits = 0
        self._last: deque[bool] = deque(maxlen=size)

    def add(self, is_hit: bool) -> None:
        """One value more; the oldest one goes."""
        if len(self._last) == self._last.maxlen:
            self.hits -= self._last[0]
        self._last.append(is_hit)
        self.hits += is_hit

    @property
    def count(self) -> int:
        """How many values there are."""
        return len(self._last)

    @property
    def share(self) -> float:
        """The share of hits; 0 without values."""
        return self.hits / len(self._last) if self._last else 0.0
