"""`python -m tests.docs`: write the generated parts; `python -m tests.docs benchmarks FILE`: write the figures.

`python -m tests.docs failing`: measure what a job makes of gateways that fail, and write the table of failures.md.
`python -m tests.docs coverage`: draw how often the intervals hold the truth, and write the table of evaluation.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.benchmarks import coverage
from tests.docs.figures import write_figures
from tests.docs.generate import write_generated, write_part
from tests.engine.failing_gateways import table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.docs", description=__doc__)
    parser.add_argument(
        "part", nargs="?", choices=["benchmarks", "failing", "coverage"], help="figures; the other parts without it"
    )
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="what `tests.benchmarks --json` wrote")
    options = parser.parse_args()
    if options.part is None:
        write_generated()
    elif options.part == "failing":
        write_part("failures", "failing", table())
    elif options.part == "coverage":
        write_part("evaluation", "coverage", "\n".join(coverage.table()))
    elif options.file is None:
        parser.error("benchmarks needs the FILE that `python -m tests.benchmarks --json FILE` wrote")
    else:
        write_figures(options.file)


if __name__ == "__main__":
    main()
