"""Pictures in cells: a path, an http(s) URL, a data URL, or the bytes of a picture. The content tells the type."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

_TYPES = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF87a": "gif", b"GIF89a": "gif"}


def image_url(cell: Any, folder: Path, max_bytes: int) -> str:
    """The URL of a picture for a request; a path begins at `folder`, and the picture goes with the request.

    Raises `ValueError` for what is none, or is larger than `max_bytes`.
    """
    if isinstance(cell, str) and cell.startswith(("http://", "https://")):
        return cell
    if isinstance(cell, str) and cell.startswith("data:"):
        return _as_data(_unpacked(cell), max_bytes)
    return _as_data(cell if isinstance(cell, bytes) else _read(cell, folder, max_bytes), max_bytes)


def _read(cell: Any, folder: Path, max_bytes: int) -> bytes:
    if not isinstance(cell, str) or not cell.strip():
        raise ValueError("no picture; write a path, a URL or a data URL")
    try:
        with (folder / cell).open("rb") as file:
            return file.read(max_bytes + 1)
    except (OSError, ValueError) as error:  # a NUL in the path
        raise ValueError(f"cannot read the picture {cell}: {getattr(error, 'strerror', None) or error}") from None


def _unpacked(url: str) -> bytes:
    head, comma, data = url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise ValueError("the data URL of the picture has no base64; write data:image/png;base64,…")
    try:
        return base64.b64decode(data, validate=True)
    except ValueError:
        raise ValueError("the data URL of the picture is not base64; encode it again") from None


def _as_data(content: bytes, max_bytes: int) -> str:
    if len(content) > max_bytes:
        raise ValueError(f"the picture is larger than {max_bytes:,} bytes; make it smaller, or raise --max-image-bytes")
    is_webp = content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    kind = "webp" if is_webp else next((kind for magic, kind in _TYPES.items() if content.startswith(magic)), None)
    if kind is None:
        raise ValueError("no picture of a known type; use PNG, JPEG, GIF or WebP")
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
