"""What is taken where nobody tells, on the command line and from Python. Imports nothing, so that help is fast."""

from __future__ import annotations

SHOWN_FLIPS = 20
"""Rows, of each pair and field, that one file has right and the other has not."""
