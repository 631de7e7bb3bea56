"""What `prepare` is told: the texts, the schema, the examples, the pictures, the choice of rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from batchrun.datasets.schema import Schema
from batchrun.datasets.tables import Source

MAX_IMAGE_BYTES = 20 << 20


@dataclass(frozen=True, slots=True)
class Examples:
    """Few-shot examples: a table with the columns of DATA, and the column that has the right answer.

    `answer` None: a file of corrections; the rows that were corrected are the examples.
    """

    source: Source
    answer: str | None


@dataclass(frozen=True, slots=True)
class Recipe:
    """How requests are made of rows. `prompt`, `instructions` and `developer` are templates.

    `fields`: top-level fields of every body, as JSON. `images`: columns with pictures. `where`: an expression that is
    true of the rows that are taken; `limit`: of those, how many. `id_column` None: ids are made of the cells that are
    used. `repeat`: how often each row is asked. `missing_is_empty`: a key that a row of JSON lacks is null.
    """

    prompt: str
    instructions: str | None = None
    developer: str | None = None
    schema: Schema | None = None
    model: str | None = None
    fields: Mapping[str, bytes] = field(default_factory=dict)
    examples: Examples | None = None
    images: tuple[str, ...] = ()
    max_image_bytes: int = MAX_IMAGE_BYTES
    where: str | None = None
    limit: int | None = None
    id_column: str | None = None
    repeat: int = 1
    missing_is_empty: bool = False
