"""Sample and Turn: one instruction-tuning conversation, as every room of this project speaks of it.

A picture's place in the text is the placeholder `<image>`, as in LLaVA's JSON. A sample is identified by
`sample_id` (given by the pool, unique for ever) and by `content_hash` (what it says and shows, whoever brought it).
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

import pandas as pd
import pyarrow as pa

IMAGE = "<image>"

TURNS = pa.list_(pa.struct([("role", pa.string()), ("text", pa.string())]))
# a sample as a row of a table: of the arrivals, of the pool
ROWS = pa.schema(
    [
        ("sample_id", pa.int64()),
        ("round", pa.int32()),
        ("source", pa.string()),
        ("source_id", pa.string()),
        ("skill", pa.string()),
        ("images", pa.list_(pa.string())),
        ("turns", TURNS),
        ("references", pa.list_(pa.string())),  # further right answers of a test item
        ("content_hash", pa.string()),  # words and pictures
        ("question_hash", pa.int64()),  # words of the questions, less case and punctuation
        ("picture_hashes", pa.list_(pa.string())),
        ("picture_marks", pa.list_(pa.binary())),  # perceptual
        ("repairs", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True)
class Turn:
    """One thing said."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True)
class Sample:
    """One conversation with its pictures; `images` are paths below the root of `source`."""

    sample_id: int
    source: str
    source_id: str
    skill: str
    images: tuple[str, ...]
    turns: tuple[Turn, ...]

    def without_images(self) -> "Sample":
        """The same words with every picture and placeholder taken out (METHOD: image grounding, `drop`)."""
        bare = tuple(Turn(turn.role, _drop_placeholders(turn.text)) for turn in self.turns)
        return Sample(self.sample_id, self.source, self.source_id, self.skill, (), bare)


def samples_of(rows: pd.DataFrame) -> list[Sample]:
    """The samples that rows of the pool (or of the benchmark items) describe, in their order."""
    return [
        Sample(
            sample_id=int(row["sample_id"]),
            source=row["source"],
            source_id=row["source_id"],
            skill=row["skill"],
            images=tuple(row["images"]),
            turns=tuple(Turn(turn["role"], turn["text"]) for turn in row["turns"]),
        )
        for row in rows.to_dict("records")
    ]


def content_hash(turns: list[dict[str, str]], image_hashes: list[str]) -> str:
    """SHA-256 (hex) of the words and of the pictures' bytes: equal for equal samples whatever their names."""
    said = "".join([f"{turn['role']} {len(turn['text'])} {turn['text']}" for turn in turns])
    shown = b"".join(map(bytes.fromhex, image_hashes))
    return hashlib.sha256(said.encode("utf-8", "surrogatepass") + shown).hexdigest()


def _drop_placeholders(text: str) -> str:
    return text.replace(IMAGE + "\n", "").replace("\n" + IMAGE, "").replace(IMAGE, "").strip()
