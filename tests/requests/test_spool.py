"""Requests from Python become the lines that a request file would have."""

from __future__ import annotations

import pytest

from batchrun.errors import InputError
from batchrun.requests.spool import spooled


def test_a_number_of_any_size_goes_out_as_it_is() -> None:
    """As it does from a file; so do texts beside it."""
    with spooled([{"input": "né", "seed": 10**40}]) as file:
        assert file.read() == b'{"input": "n\xc3\xa9", "seed": 1%s}\n' % (b"0" * 40)
    with pytest.raises(InputError, match="requests:1: not JSON"):
        spooled([{"seed": 10**40, "input": {1, 2}}])
