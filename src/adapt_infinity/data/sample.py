"""Sample and Turn: one instruction-tuning conversation, and the schema of a table with one row per sample.

The placeholder `<image>` in the text says where a picture belongs, as in LLaVA's JSON. Two fields identify a sample:
`sample_id` is given by the pool and never reused; `content_hash` is equal for samples of equal text and pictures,
whatever their source.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd
import pyarrow as pa

from adapt_infinity.data.tables import require_columns

IMAGE = "<image>"  # the placeholder of a picture
IGNORED_LABEL = -100  # the label of a token that is not part of an answer; torch's cross_entropy leaves it out

TURNS = pa.list_(pa.struct([("role", pa.string()), ("text", pa.string())]))
# tables of samples: the arrivals, the shards of the pool, the benchmark items
SAMPLE_SCHEMA = pa.schema(
    [
        ("sample_id", pa.int64()),
        ("round", pa.int32()),
        ("source", pa.string()),
        ("source_id", pa.string()),
        ("skill", pa.string()),
        ("images", pa.list_(pa.string())),
        ("turns", TURNS),
        ("references", pa.list_(pa.string())),  # all correct answers of a test item that has several
        ("content_hash", pa.string()),  # of the text and the pictures
        ("question_hash", pa.int64()),  # of the questions' words, without case and punctuation
        ("picture_hashes", pa.list_(pa.string())),  # SHA-256 of each picture file, in hexadecimal
        ("picture_marks", pa.list_(pa.binary())),  # the perceptual hash of each picture; named so in pools that exist
        ("repairs", pa.list_(pa.string())),  # what intake changed, in words
    ]
)


@dataclass(frozen=True)
class Turn:
    """One message of a conversation."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True)
class Sample:
    """One conversation with its pictures.

    `images` are paths below the root folder of `source`, or names in the picture store (data/pictures.py).
    """

    sample_id: int
    source: str
    source_id: str
    skill: str
    images: tuple[str, ...]
    turns: tuple[Turn, ...]

    def without_images(self) -> "Sample":
        """The same text without pictures and placeholders, for image grounding (docs/method.md, section 2)."""
        turns = tuple(Turn(turn.role, _drop_placeholders(turn.text)) for turn in self.turns)
        return replace(self, images=(), turns=turns)


def samples_of(rows: pd.DataFrame) -> list[Sample]:
    """The samples in a table with the columns of `SAMPLE_SCHEMA`, in the order of its rows.

    `ValueError` when a column is missing.
    """
    require_columns(rows, "a table of samples", ["sample_id", "source", "source_id", "skill", "images", "turns"])
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
    """SHA-256 (in hexadecimal) of a conversation's text and of the SHA-256 hashes of its pictures.

    Ids, skills and file names do not enter it.
    """
    text = "".join([f"{turn['role']} {len(turn['text'])} {turn['text']}" for turn in turns])
    pictures = b"".join(map(bytes.fromhex, image_hashes))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass") + pictures).hexdigest()


def _drop_placeholders(text: str) -> str:
    return text.replace(IMAGE + "\n", "").replace("\n" + IMAGE, "").replace(IMAGE, "").strip()
