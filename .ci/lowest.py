"""Print the lowest version of each run-time dependency that pyproject.toml allows, as constraints for pip.

    python3 .ci/lowest.py > lowest.txt

The extras that a user can install are among them; what only the tests need is not.
"""

import re
import sys
import tomllib
from itertools import chain
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
FOR_TESTS = ("test", "oracle", "browser")
# "name>=1.2", and perhaps a marker of the environment
BOUNDED = re.compile(r"(?P<name>[A-Za-z0-9._-]+)>=(?P<version>[0-9][0-9.]*)(?P<marker>\s*;.*)?")


def constraints(project: Path = PROJECT) -> list[str]:
    """The constraints, sorted. Raises `ValueError` for a dependency without a lower bound."""
    told = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    extras = told["optional-dependencies"]
    of_users = [needs for name, needs in extras.items() if name not in FOR_TESTS]
    needs = [*told["dependencies"], *chain.from_iterable(of_users)]
    lowest = set()
    for need in needs:
        found = BOUNDED.fullmatch(need)
        if found is None:
            raise ValueError(f"no lower bound: {need}")
        lowest.add(f"{found['name']}=={found['version']}{found['marker'] or ''}")
    return sorted(lowest)


if __name__ == "__main__":
    sys.stdout.write("".join(f"{line}\n" for line in constraints()))
