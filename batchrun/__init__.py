"""batchrun: a JSONL file of requests in, a JSONL file of responses out, resumable, with a bill.

Each name below is imported when it is first used, so that the command line starts fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from batchrun.version import __version__

if TYPE_CHECKING:
    from batchrun.api import Outcome, ResultStream, label, run, run_async, stream
    from batchrun.cluster.options import Ray
    from batchrun.datasets.results import Results
    from batchrun.engine.error_limit import MaxErrors
    from batchrun.engine.observer import Observer, Status
    from batchrun.engine.retry import RetryPolicy
    from batchrun.errors import BatchrunError, InputError, ResultFileError, StopError, UsageError
    from batchrun.evaluation.agreement import Agreements
    from batchrun.evaluation.compare import Comparison
    from batchrun.evaluation.figures import Evaluation
    from batchrun.evaluation.judge_requests import ToJudge
    from batchrun.evaluation.python import compare, evaluate, judge
    from batchrun.job.endpoints import NamedEndpoint
    from batchrun.job.job import Job
    from batchrun.job.resume import Changed
    from batchrun.limits.options import Concurrency, Limits
    from batchrun.records.answer import Result, ToolCall
    from batchrun.records.request import Overrides
    from batchrun.report.report import Report
    from batchrun.simulator.app import Gateway
    from batchrun.simulator.options import GatewayOptions
    from batchrun.transport.deadlines import Timeouts
    from batchrun.transport.endpoint import Endpoint

__all__ = [
    "Agreements",
    "BatchrunError",
    "Changed",
    "Comparison",
    "Concurrency",
    "Endpoint",
    "Evaluation",
    "Gateway",
    "GatewayOptions",
    "InputError",
    "Job",
    "Limits",
    "MaxErrors",
    "NamedEndpoint",
    "Observer",
    "Outcome",
    "Overrides",
    "Ray",
    "Report",
    "Result",
    "ResultFileError",
    "ResultStream",
    "Results",
    "RetryPolicy",
    "Status",
    "StopError",
    "Timeouts",
    "ToJudge",
    "ToolCall",
    "UsageError",
    "__version__",
    "compare",
    "evaluate",
    "judge",
    "label",
    "run",
    "run_async",
    "stream",
]

_HOMES = {
    "api": ("Outcome", "ResultStream", "label", "run", "run_async", "stream"),
    "cluster.options": ("Ray",),
    "datasets.results": ("Results",),
    "engine.error_limit": ("MaxErrors",),
    "engine.observer": ("Observer", "Status"),
    "engine.retry": ("RetryPolicy",),
    "errors": ("BatchrunError", "InputError", "ResultFileError", "StopError", "UsageError"),
    "evaluation.agreement": ("Agreements",),
    "evaluation.compare": ("Comparison",),
    "evaluation.figures": ("Evaluation",),
    "evaluation.judge_requests": ("ToJudge",),
    "evaluation.python": ("compare", "evaluate", "judge"),
    "job.endpoints": ("NamedEndpoint",),
    "job.job": ("Job",),
    "job.resume": ("Changed",),
    "limits.options": ("Concurrency", "Limits"),
    "records.answer": ("Result", "ToolCall"),
    "records.request": ("Overrides",),
    "report.report": ("Report",),
    "simulator.app": ("Gateway",),
    "simulator.options": ("GatewayOptions",),
    "transport.endpoint": ("Endpoint",),
    "transport.deadlines": ("Timeouts",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'batchrun' has no attribute {name!r}")
    return getattr(import_module(f"batchrun.{_HOME_OF[name]}"), name)
