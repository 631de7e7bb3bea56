"""`batchrun run --ray`: what is refused, before Ray is asked for anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchrun import version
from tests.cli.commands import Command, write_requests

MANUAL = Path(version.__file__).parent / "docs" / "cluster.md"
ENDPOINT = '[[endpoint]]\nname = "a"\nbase_url = "http://127.0.0.1:9/v1"\nauth = "none"\n'


@pytest.mark.parametrize("options", ["--dedup", "--endpoints e.toml", "--limit 3 --sample 3", "--pilot 20"])
def test_what_would_break_a_promise_is_refused_with_the_reason_that_the_manual_gives(
    batchrun: Command, tmp_path: Path, options: str
) -> None:
    write_requests(tmp_path / "requests.jsonl")
    (tmp_path / "e.toml").write_text(ENDPOINT)
    gateway = [] if "--endpoints" in options else ["--base-url", "http://127.0.0.1:9/v1", "--auth", "none"]
    refused = batchrun("run", "requests.jsonl", "-o", "results", "--ray", "local", *gateway, *options.split())
    named, _, reason = refused.err.strip().partition(" with --ray: ")
    assert refused.code == 2
    assert named.startswith(f"batchrun: {options.split()[0]} ")
    manual = MANUAL.read_text().replace("`", "")
    assert f"| {reason} |" in manual
    assert not (tmp_path / "results").exists(), "nothing was made"
