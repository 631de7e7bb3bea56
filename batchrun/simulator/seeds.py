"""Random values that depend on what they are drawn for, not on the order of drawing."""

from __future__ import annotations

import hashlib
import random


def digest_of(seed: int, purpose: bytes, *parts: bytes | int) -> bytes:
    """32 bytes that depend on the seed, the purpose and these parts alone."""
    hashed = hashlib.blake2b(b"%d|%b" % (seed, purpose), digest_size=32)
    for part in parts:
        hashed.update(b"|%d" % part if isinstance(part, int) else part)
    return hashed.digest()


def share_of(seed: int, purpose: bytes, *parts: bytes | int) -> float:
    """A number above 0 and below 1 for these parts, evenly distributed."""
    return (int.from_bytes(digest_of(seed, purpose, *parts)[:6]) + 0.5) / (1 << 48)


def random_of(seed: int, purpose: bytes, *parts: bytes | int) -> random.Random:
    """A random generator for these parts; good for a simulation, not for secrets."""
    return random.Random(int.from_bytes(digest_of(seed, purpose, *parts)[:8]))
