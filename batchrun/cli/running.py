"""The run that writes a result file, for the page of `batchrun view`: asked and changed as by `batchrun tune`."""

from __future__ import annotations

from pathlib import Path

from batchrun.cli.tune import tuning_of
from batchrun.errors import StopError
from batchrun.job import tune
from batchrun.results.events import Tuned
from batchrun.results.files import is_running
from batchrun.results.paths import ResultPaths
from batchrun.viewer.running import Change, RunState

PATIENCE_S = 3.0
_OPTIONS = {"concurrency": "--concurrency", "rpm": "--rpm", "tpm": "--tpm", "max_cost": "--max-cost"}


class TunedRun:
    """The run that writes a result file."""

    def __init__(self, results: Path) -> None:
        self._paths = ResultPaths.of(results)

    def is_there(self) -> bool:
        """Whether a run writes the file now."""
        return is_running(self._paths.log)

    def tune(self, change: Change) -> RunState:
        """Change limits, or nothing, and return the state of the run. Raises `UsageError` or `StopError`."""
        if change == Change() and self._paths.tune.exists():
            raise StopError("the run has not read the request before this one yet")
        options = {option: getattr(change, name).strip() for name, option in _OPTIONS.items()}
        words = [f"{option}={value}" for option, value in options.items() if value]
        if change.paused is not None:
            words.append("--pause" if change.paused else "--resume")
        return _state(tune.ask(self._paths.results, tuning_of(words), PATIENCE_S))


def _state(tuned: Tuned) -> RunState:
    doing = tune.doing(tuned).replace("; --resume continues", "")
    return RunState(
        done=tuned.done,
        total=tuned.total,
        is_paused=tuned.paused,
        lines=(tune.how_far(tuned), doing, *tune.of_models(tuned)),
        limits={
            "concurrency": tuned.concurrency,
            "rpm": "" if tuned.rpm is None else f"{tuned.rpm:g}",
            "tpm": "" if tuned.tpm is None else f"{tuned.tpm:g}",
            "max_cost": tuned.max_cost_usd or "",
        },
    )
