"""Options whose value is a text, or `@FILE`: the text of a file."""

from __future__ import annotations

from pathlib import Path

from batchrun.errors import UsageError


def text_of(option: str, value: str) -> str:
    """The text of an option. Of a file, the BOM and the one final newline are no part of it; all else stays.

    Raises `UsageError` where there is no such file, or it is not UTF-8.
    """
    if not value.startswith("@"):
        if any("\ud800" <= character <= "\udfff" for character in value):  # what is no text on the command line
            raise UsageError(f"{option}: it is not UTF-8; put it into a file, and write @FILE")
        return value
    path = Path(value[1:])
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{option} {value}: cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{option} {value}: byte {error.start + 1} is not UTF-8; save the file as UTF-8") from None
    return text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")
