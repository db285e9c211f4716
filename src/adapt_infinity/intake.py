"""Intake: read a source, check every record, and set the bad ones aside with their reason.

A record is never dropped without a trace: `arrivals` and `rejects` together have one row per record of the source.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

import pandas as pd
from tqdm import tqdm

from adapt_infinity import formats
from adapt_infinity.pictures import Pictures
from adapt_infinity.sample import IMAGE, content_hash

ARRIVAL_COLUMNS = ["source", "source_id", "skill", "images", "turns", "content_hash"]
REJECT_COLUMNS = ["source", "position", "source_id", "reason"]


@dataclass(frozen=True)
class Source:
    """A dataset as it arrives: its name, its format, and its raw records in file order."""

    name: str
    format: str
    records: Iterable[Any]
    graders: Mapping[str, str]  # skill → the grader of its test items


@dataclass(frozen=True, kw_only=True)
class IntakeParams:
    """params:intake."""

    max_text: int  # characters in one conversation
    max_reject_share: float  # a source with a greater share of bad records stops the round

    def __post_init__(self) -> None:
        if self.max_text < 1:
            raise ValueError(f"intake.max_text must be at least 1, got {self.max_text}")
        if not 0 <= self.max_reject_share <= 1:
            raise ValueError(f"intake.max_reject_share must lie in 0..1, got {self.max_reject_share}")


def check_records(
    source: Source, pictures: Pictures, params: IntakeParams, known_ids: Set[str] = frozenset()
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Arrivals (columns ARRIVAL_COLUMNS, in file order) and rejects (source, position in the file, id, reason).

    A record is rejected when its format cannot read it, when turns do not alternate from user to assistant, an answer
    is empty, the placeholders and pictures differ in number, a picture is missing, unreadable or outside the root, the
    text is too long, or its id was already used by this source, here or in an earlier round (`known_ids`): an id names
    one sample for ever. Duplicate *content* is no error: redundancy is what pruning is for.
    """
    parse = formats.load(source.format)
    arrivals: list[dict[str, Any]] = []
    rejects: list[dict[str, Any]] = []
    seen_ids = set(known_ids)
    seen_pictures: dict[str, str] = {}
    for position, record in enumerate(tqdm(source.records, f"reading {source.name}", unit="row", disable=None)):
        source_id = str(record.get("id", "")) if isinstance(record, Mapping) else ""
        try:
            conversation = parse(record)
            _check_conversation(conversation, params.max_text)
            if conversation.source_id in seen_ids:
                raise ValueError("this id was already used by an earlier record of the source")
            for name in conversation.images:
                if name not in seen_pictures:
                    seen_pictures[name] = pictures.check(source.name, name)
        except ValueError as error:
            rejects.append({"source": source.name, "position": position, "source_id": source_id, "reason": str(error)})
            continue
        seen_ids.add(conversation.source_id)
        arrivals.append(
            {
                "source": source.name,
                "source_id": conversation.source_id,
                "skill": conversation.skill or source.name,
                "images": conversation.images,
                "turns": conversation.turns,
                "content_hash": content_hash(conversation.turns, [seen_pictures[name] for name in conversation.images]),
            }
        )
    _check_yield(source.name, arrivals, rejects, params.max_reject_share)
    return pd.DataFrame(arrivals, columns=ARRIVAL_COLUMNS), pd.DataFrame(rejects, columns=REJECT_COLUMNS)


def _check_conversation(conversation: formats.Conversation, max_text: int) -> None:
    turns = conversation.turns
    expected = ["user", "assistant"] * (len(turns) // 2)
    if [turn["role"] for turn in turns] != expected:
        raise ValueError("turns do not alternate between user and assistant, ending with an answer")
    if any(not turn["text"].strip() for turn in turns if turn["role"] == "assistant"):
        raise ValueError("an answer is empty")
    if any(IMAGE in turn["text"] for turn in turns if turn["role"] == "assistant"):
        raise ValueError("an answer contains an image placeholder")
    if any(not turn["text"].strip() for turn in turns if turn["role"] == "user"):
        raise ValueError("a question is empty")
    placeholders = sum(turn["text"].count(IMAGE) for turn in turns)
    if placeholders != len(conversation.images):
        raise ValueError(f"{placeholders} image placeholders but {len(conversation.images)} pictures")
    length = sum(len(turn["text"]) for turn in turns)
    if length > max_text:
        raise ValueError(f"{length} characters of text, intake.max_text is {max_text}")
    try:
        "".join(turn["text"] for turn in turns).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("the text is not valid Unicode") from error


def _check_yield(name: str, arrivals: list[Any], rejects: list[dict[str, Any]], max_share: float) -> None:
    total = len(arrivals) + len(rejects)
    if not arrivals:
        example = f"; the first reason: {rejects[0]['reason']}" if rejects else " and no record at all"
        raise ValueError(f"source {name!r} yields no usable sample ({len(rejects)} rejected{example})")
    if len(rejects) > max_share * total:
        raise ValueError(
            f"source {name!r}: {len(rejects)} of {total} records are bad, more than intake.max_reject_share "
            f"({max_share:g}); the first reason: {rejects[0]['reason']}"
        )
