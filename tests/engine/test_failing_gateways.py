"""What a job makes of gateways that fail: no line is lost, every job ends, and the manual's figures are true."""

from __future__ import annotations

import pytest

from tests.docs.pages import MANUAL
from tests.engine.failing_gateways import FAILING, Failing

ROWS = {row[0]: row[1:] for row in MANUAL["failures"].rows("Whose fault it is")}


def test_the_manual_has_a_row_for_each_of_them_in_order_and_each_is_met() -> None:
    assert list(ROWS) == [failing.name for failing in FAILING]
    for name, (used, refusals, lost) in ROWS.items():
        assert lost == "0", name
        assert float(used) >= next(failing.least_used for failing in FAILING if failing.name == name)
        assert float(refusals) <= next(failing.most_refusals for failing in FAILING if failing.name == name)


@pytest.mark.slow
@pytest.mark.parametrize("failing", FAILING, ids=lambda failing: failing.name)
def test_no_line_is_lost_and_the_figures_are_those_of_the_manual(failing: Failing) -> None:
    (measured, is_met), (used, refusals, _) = failing.typical(), ROWS[failing.name]
    assert is_met, measured
    assert measured.used >= float(used) - 0.1, measured
    assert measured.refusals <= float(refusals) + 0.05, measured
