"""What to do after a run, in at most two lines: what to change first, and the command to run next.

1. No line is sent again that would get the same end: `--retry-errors` is there only for lines that may end otherwise.
2. The command is the one that was run, without a password.
"""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from batchrun.records.words import counted

if TYPE_CHECKING:
    from batchrun.job.summary import Summary
    from batchrun.records.remedies import Remedy

_SHOWN_CODES = 3
_LIMITS = ("max_output_tokens", "max_completion_tokens", "max_tokens")


class NextStep(NamedTuple):
    """`command` is what to run next; `change` what to change before that, for lines that it would not help as they are.

    None where there is nothing to run or to change.
    """

    command: str | None = None
    change: str | None = None


def next_step(summary: Summary, made_of: str | None = None, sample: int | None = None) -> NextStep:
    """What to do after a run with a result file.

    `made_of`: what the requests are made of, and so what to edit; None: the request file itself. `sample`: how many
    lines were chosen, of which a pilot sends fewer; None: all.
    """
    from batchrun.records.remedies import Remedy, by_remedy

    tally = summary.prepared.tally
    if summary.left:
        is_whole = sample is not None and summary.prepared.job.sample == sample and summary.stopped is None
        return NextStep(_command(summary, sends_rest=is_whole, keeps_options=made_of is not None))
    lines = by_remedy(tally.final_errors)
    if not lines:
        return NextStep(_command(summary) if tally.retryable else None)
    edits, settings, changed = _edits(summary, lines, made_of), _settings(summary, lines), None
    if lines.keys() <= {Remedy.CORRECT, Remedy.MORE_OUTPUT} and not settings:
        changed = "resend"  # only what was edited
    elif Remedy.MORE_OUTPUT in lines and _limit_option(summary) is not None:
        changed = "keep"  # the answers of all other lines
    command = _command(summary, retry_errors=changed != "resend", changed=changed)
    changes = " and ".join([*edits, *settings])
    return NextStep(command, f"{changes}: the same request gets the same end" if changes else None)


def _edits(summary: Summary, lines: dict[Remedy, Counter[str]], made_of: str | None) -> list[str]:
    """What to change in the request file, or in what it is made of."""
    from batchrun.records.remedies import Remedy

    requests, edits = summary.prepared.job.requests, list[str]()
    where = made_of or (requests if isinstance(requests, str) and requests != "-" else "the request file")
    if (codes := lines.get(Remedy.CORRECT)) is not None:
        edits.append(f"correct {counted(codes.total(), 'line')} in {where} ({_named(codes)})")
    if (codes := lines.get(Remedy.MORE_OUTPUT)) is not None and _limit_option(summary) is None:
        edits.append(f"raise {_limit_name(summary)} in {where} ({counted(codes.total(), 'answer')} cut off at it)")
    return edits


def _settings(summary: Summary, lines: dict[Remedy, Counter[str]]) -> list[str]:
    """What to change on the command line."""
    from batchrun.records.remedies import Remedy

    settings, limit = list[str](), _limit_option(summary)
    if (codes := lines.get(Remedy.MORE_OUTPUT)) is not None and limit is not None:
        settings.append(f"raise --set {limit} ({counted(codes.total(), 'answer')} cut off at it)")
    if (codes := lines.get(Remedy.LARGER_ANSWERS)) is not None:
        settings.append(f"raise --max-response-bytes ({counted(codes.total(), 'answer')} larger than that)")
    if (codes := lines.get(Remedy.OTHER_ADDRESS)) is not None:
        settings.append(f"correct --base-url ({counted(codes.total(), 'line')} redirected)")
    return settings


def _limit_option(summary: Summary) -> str | None:
    """The limit of output tokens that `--set` gives to every line; None if the lines have their own."""
    return next((name for name in _LIMITS if name in summary.prepared.job.overrides.fields), None)


def _limit_name(summary: Summary) -> str:
    """How the requests name their limit of output tokens."""
    urls = summary.prepared.survey.endpoints
    return "max_completion_tokens" if urls and all("chat" in url for url in urls) else "max_output_tokens"


def _named(codes: Counter[str]) -> str:
    """The most frequent codes."""
    names = [code[:60] for code, _ in codes.most_common(_SHOWN_CODES)]
    return ", ".join([*names, *(["…"] if len(codes) > _SHOWN_CODES else [])])


def _command(
    summary: Summary,
    *,
    retry_errors: bool = False,
    changed: str | None = None,
    sends_rest: bool = False,
    keeps_options: bool = False,
) -> str:
    """The same command again. `sends_rest`: all of a sample is done; `keeps_options`: the job remembers its size."""
    from batchrun.records.money import usd

    words = _without_password([word for word in sys.argv[1:] if word not in ("--overwrite", "--retry-errors")])
    if sends_rest:
        words = [*_without_option(words, "--sample"), *(("--sample", "all") if keeps_options else ())]
    if summary.enough_usd is not None:
        words = _with_option(words, "--max-cost", usd(summary.enough_usd))
    if retry_errors:
        words.append("--retry-errors")
    if changed is not None:
        words = [*_without_option(words, "--changed"), "--changed", changed]
    return shlex.join(["batchrun", *words])


def _without_password(words: list[str]) -> list[str]:
    """The same words without the address of a proxy, which may hold a password."""
    after = [None, *words]
    return [
        "--proxy=…" if word.startswith("--proxy=") else "…" if before == "--proxy" else word
        for before, word in zip(after, words, strict=False)
    ]


def _with_option(words: list[str], name: str, value: str) -> list[str]:
    """The same words with another value of an option that is among them."""
    words = [f"{name}={value}" if word.startswith(f"{name}=") else word for word in words]
    if name in words[:-1]:
        words[words.index(name) + 1] = value
    return words


def _without_option(words: list[str], name: str) -> list[str]:
    """The same words without an option and its value."""
    words = [word for word in words if not word.startswith(f"{name}=")]
    return words[: words.index(name)] + words[words.index(name) + 2 :] if name in words else words
