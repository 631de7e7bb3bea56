"""Write requests.jsonl, one request for each question of references.jsonl.

    python make_requests.py [references.jsonl [requests.jsonl]]

A question's "ask" is a list of parts: a string is text, {"image": rows} a picture drawn from letters,
one square a letter. "before" holds the turns of the conversation that led to the question.
"""

import base64
import json
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MODEL = "gpt-4.1"
STYLE = {
    "word": "Answer with the word, name or string alone, without explanation or quotation marks.",
    "sentence": "Answer in one short sentence.",
    "number": "Answer with the number alone, in digits, without a unit or explanation.",
}
COLOURS = {
    "K": (0, 0, 0),
    "W": (255, 255, 255),
    "R": (220, 0, 0),
    "G": (0, 150, 0),
    "B": (0, 40, 220),
    "Y": (255, 220, 0),
}
SQUARE = 12  # pixels along one side of a square


def png(rows: list[str]) -> bytes:
    """Draw one square for each letter of the rows, as a PNG with a palette and 4 bits a pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    letters = list(COLOURS)
    pixels = b""
    for row in rows:
        pairs = b"".join(bytes([letters.index(letter) * 0x11]) * (SQUARE // 2) for letter in row)
        pixels += (b"\0" + pairs) * SQUARE
    # One stored block, not compressed: the bytes are then the same whichever zlib Python was built with.
    size = len(pixels)
    stream = b"\x78\x01\x01" + struct.pack("<HH", size, size ^ 0xFFFF) + pixels
    stream += struct.pack(">I", zlib.adler32(pixels))
    header = struct.pack(">IIBBBBB", len(rows[0]) * SQUARE, len(rows) * SQUARE, 4, 3, 0, 0, 0)
    palette = b"".join(map(bytes, COLOURS.values()))
    chunks = chunk(b"IHDR", header) + chunk(b"PLTE", palette) + chunk(b"IDAT", stream) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def part(item: str | dict[str, Any]) -> dict[str, Any]:
    """Return the content part for a piece of text or a picture."""
    if isinstance(item, str):
        return {"type": "input_text", "text": item}
    data = base64.b64encode(png(item["image"])).decode("ascii")
    return {"type": "input_image", "image_url": f"data:image/png;base64,{data}", "detail": "low"}


def request(question: dict[str, Any]) -> dict[str, Any]:
    """Return the batch line that asks one question."""
    turns: list[dict[str, Any]] = [{"role": "developer", "content": STYLE[question["style"]]}]
    for role, text in question.get("before", []):
        kind = "output_text" if role == "assistant" else "input_text"
        turns.append({"role": role, "content": [{"type": kind, "text": text}]})
    turns.append({"role": "user", "content": [part(item) for item in question["ask"]]})
    body = {
        "model": MODEL,
        "input": turns,
        "max_output_tokens": 256,
        "metadata": {"category": question["category"]},
    }
    return {"custom_id": question["custom_id"], "method": "POST", "url": "/v1/responses", "body": body}


def main(source: Path = HERE / "references.jsonl", target: Path = HERE / "requests.jsonl") -> None:
    """Read the questions and write a request for each."""
    with (
        source.open(encoding="utf-8", newline="\n") as questions,
        target.open("w", encoding="utf-8", newline="\n") as requests,
    ):
        for line in questions:
            requests.write(json.dumps(request(json.loads(line)), ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
