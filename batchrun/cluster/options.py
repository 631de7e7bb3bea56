"""Where the shards of a job run."""

from __future__ import annotations

from dataclasses import dataclass

from batchrun import checks


@dataclass(frozen=True, slots=True)
class Ray:
    """A Ray cluster, on which a job runs in shards: `run(job, cluster=Ray("auto"))`.

    `address`: `"local"` starts one on this machine and ends it; `"auto"` is the one that this program runs in or that
    runs on this machine; any other is the address of a head, such as `"10.0.0.1:6379"` or `"ray://10.0.0.1:10001"`.
    `shards`: into how many shards the request file is cut; None: some for each processor.

    Raises `UsageError` for a value that is none of these.
    """

    address: str = "auto"
    shards: int | None = None

    def __post_init__(self) -> None:
        """Raise `UsageError` for what is no address and no number."""
        checks.text("Ray.address", self.address, 'an address such as "10.0.0.1:6379", "auto" or "local"')
        if self.shards is not None:
            checks.settle(self, shards=checks.count("Ray.shards", self.shards))
