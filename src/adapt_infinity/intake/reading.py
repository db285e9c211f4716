"""Intake: read a source, check every record, mend what is safe to mend, set the bad ones aside with their reason.

A record is never dropped without a trace: what arrives and what is rejected together account for every record of the
source, in one reading that holds a block of records in memory and no more. Arrivals come with all that later stages ask
of a sample without reading it again: the hash of its content, of its question's words, of its pictures.

What is mended, and counted in `repairs`:
- a system prompt is put before the question that follows it;
- an answer before the first question, and a question after the last answer, are left out;
- pictures without any placeholder stand before the first question;
- the placeholder of a conversation's only picture, repeated with every question, is kept in the first;
- pictures become upright RGB whenever they are opened (`data/pictures.py`); a byte order mark is skipped;
- with `duplicate_ids: number`, a repeated id gets a number ("7", "7#2"); the default is to reject the record.
"""

import gc
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
from tqdm import tqdm

from adapt_infinity.data.pictures import CheckedPicture, Pictures
from adapt_infinity.data.sample import SAMPLE_SCHEMA, Sample, Turn, content_hash
from adapt_infinity.intake import formats
from adapt_infinity.intake.conversation import check_unicode, in_order, question_hash
from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.rejects import Rejects
from adapt_infinity.intake.streaming_json import Unreadable

log = logging.getLogger(__name__)

BLOCK = 2048  # records checked together
REMEMBERED = 100_000  # pictures whose check is remembered
DUPLICATE_IDS = ("reject", "number")

Readable = Callable[[Sample, list[tuple[int, int]]], None]  # raises ValueError for a sample that the model cannot read


@dataclass(frozen=True)
class Source:
    """A dataset as it arrives: its name, its format, and its raw records in file order."""

    name: str
    format: str
    records: Iterable[Any]
    graders: Mapping[str, str]  # skill → the grader of its test items
    options: Mapping[str, Any] = field(default_factory=dict)  # of the format
    duplicate_ids: str = "reject"
    expected: int | None = None  # samples that the whole source should have, the rejected ones included
    repairs: tuple[str, ...] = ()  # made while its files were read

    def __post_init__(self) -> None:
        if self.duplicate_ids not in DUPLICATE_IDS:
            raise ValueError(f"sources: duplicate_ids of {self.name} is one of {DUPLICATE_IDS}: {self.duplicate_ids!r}")


@dataclass(frozen=True, kw_only=True)
class IntakeParams:
    """params:intake."""

    max_text: int  # characters in one conversation
    max_reject_share: float  # a source with a greater share of bad records stops the round
    near_bits: int  # pictures whose perceptual marks differ in at most so many of 240 bits look alike
    on_contamination: str  # a test item among the arrivals: report or stop
    workers: int  # threads that decode pictures

    def __post_init__(self) -> None:
        if self.max_text < 1:
            raise ValueError(f"intake.max_text must be at least 1, got {self.max_text}")
        if not 0 <= self.max_reject_share <= 1:
            raise ValueError(f"intake.max_reject_share must lie in 0..1, got {self.max_reject_share}")
        if not 0 <= self.near_bits <= 64:
            raise ValueError(f"intake.near_bits must lie in 0..64, got {self.near_bits}")
        if self.on_contamination not in ("report", "stop"):
            raise ValueError(f"intake.on_contamination must be report or stop, got {self.on_contamination!r}")
        if self.workers < 1:
            raise ValueError(f"intake.workers must be at least 1, got {self.workers}")


def check_records(
    source: Source,
    pictures: Pictures,
    params: IntakeParams,
    *,
    round: int = 0,
    first_id: int = 0,
    known_ids: Set[str] = frozenset(),
    readable: Readable | None = None,
) -> tuple[Iterator[pa.Table], Iterator[pa.Table]]:
    """Arrivals (schema SAMPLE_SCHEMA, in file order, ids from `first_id`) and rejects (schema REJECTS), as two streams.

    Nothing is read until the arrivals are drained; the rejects are known after that. A record is rejected when it
    cannot be read, when turns do not alternate from user to assistant, an answer or question is empty, placeholders and
    pictures differ in number, a picture is missing, unreadable or outside its root, the text is too long, the model
    cannot read it (`readable`), or its id was already used by this source, here or in an earlier round (`known_ids`):
    an id names one sample for ever. Duplicate *content* is no error: redundancy is what pruning is for.
    `ValueError` at the end of the stream when nothing arrived or too much was rejected.
    """
    reading = _Reading(source, pictures, params, round, first_id, set(known_ids), readable)
    return reading.arrivals(), reading.rejects()


def whole(stream: Iterator[pa.Table]) -> pd.DataFrame:
    """A stream of tables as one table in memory."""
    tables = list(stream)
    assert tables, "a stream has at least one table, if an empty one"
    return pa.concat_tables(tables).to_pandas()


class _Candidate(NamedTuple):
    """A conversation on its way through the checks."""

    position: int
    record: Any
    source_id: str
    conversation: Conversation
    turns: list[dict[str, str]]  # of the conversation, mended
    repairs: list[str]


class _Reading:
    """One reading of a source."""

    def __init__(
        self,
        source: Source,
        pictures: Pictures,
        params: IntakeParams,
        round: int,
        first_id: int,
        used_ids: set[str],
        readable: Readable | None,
    ) -> None:
        self._source, self._pictures, self._params, self._round = source, pictures, params, round
        self._next_id, self._used, self._readable = first_id, used_ids, readable
        self._parse = formats.load(source.format, source.options)
        self._seen: dict[str, CheckedPicture] = {}
        self._numbers: Counter[str] = Counter()
        self._rejects = Rejects(source.name)
        self._conversations = self._arrived = 0
        self._lost = 0.0
        self._drained = False

    def arrivals(self) -> Iterator[pa.Table]:
        """Checked rows, block by block, and an empty table for a block without any."""
        numbered = enumerate(tqdm(self._source.records, f"reading {self._source.name}", unit="row", disable=None))
        with ThreadPoolExecutor(self._params.workers) as pool:
            while True:
                with _collection(False):
                    table = self._next(numbered, pool)
                if table is None:
                    break
                yield table
        self._drained = True
        self._check_yield()

    def _next(self, numbered: Iterator[tuple[int, Any]], pool: ThreadPoolExecutor) -> pa.Table | None:
        """The rows of the next block, or None at the end of the source."""
        block = list(islice(numbered, BLOCK))
        candidates = [found for position, record in block for found in self._candidates(position, record)]
        seen = self._check_pictures(candidates, pool)
        rows = [row for candidate in candidates if (row := self._row(candidate, seen)) is not None]
        return _table(rows) if block else None

    def rejects(self) -> Iterator[pa.Table]:
        """What was set aside while the arrivals were drained."""
        assert self._drained, "arrivals are drained before rejects"
        yield from self._rejects.tables()

    def _candidates(self, position: int, record: Any) -> list[_Candidate]:
        """The conversations of a record that are in order, whatever their pictures."""
        if isinstance(record, Unreadable):
            self._lost = max(self._lost, record.lost)
            self._rejects.add(position, record, "", record.reason)
            return []
        try:
            parsed = self._parse(record)
        except ValueError as error:
            self._conversations += 1
            self._rejects.add(position, record, _id_of(record), str(error))
            return []
        single = isinstance(parsed, Conversation)
        conversations = [parsed] if isinstance(parsed, Conversation) else parsed
        self._conversations += len(conversations)
        found = []
        for place, conversation in enumerate(conversations):
            try:
                for name in (conversation.source_id, conversation.skill, *conversation.references):
                    if not name.isascii():
                        check_unicode(name)
                turns, repairs = in_order(conversation.turns, len(conversation.images), self._params.max_text)
            except ValueError as error:
                self._rejects.add(position, record, conversation.source_id, str(error))
                continue
            source_id = conversation.source_id or (f"{position}" if single else f"{position}-{place}")
            found.append(_Candidate(position, record, source_id, conversation, turns, repairs))
        return found

    def _check_pictures(
        self, candidates: list[_Candidate], pool: ThreadPoolExecutor
    ) -> dict[str | bytes, CheckedPicture | ValueError]:
        """What each distinct picture of a block turned out to be, or why it is none; decoded side by side."""
        wanted = dict.fromkeys(image for candidate in candidates for image in candidate.conversation.images)
        if not wanted:
            return {}
        known: dict[str | bytes, CheckedPicture | ValueError] = {
            image: self._seen[image] for image in wanted if isinstance(image, str) and image in self._seen
        }
        fresh = [image for image in wanted if image not in known]
        with _collection(True):  # decoders are not ours
            checked = dict(zip(fresh, pool.map(self._check_picture, fresh), strict=True))
        if len(self._seen) > REMEMBERED:
            self._seen.clear()
        self._seen |= {
            image: seen
            for image, seen in checked.items()
            if isinstance(seen, CheckedPicture) and isinstance(image, str)
        }
        return known | checked

    def _check_picture(self, image: str | bytes) -> CheckedPicture | ValueError:
        try:
            return self._pictures.check(self._source.name, image)
        except ValueError as error:
            return error

    def _row(
        self, candidate: _Candidate, seen: Mapping[str | bytes, CheckedPicture | ValueError]
    ) -> tuple[Any, ...] | None:
        """The row of a candidate, in the order of SAMPLE_SCHEMA, or None once it has been rejected."""
        conversation, turns, repairs = candidate.conversation, candidate.turns, candidate.repairs
        if not self._arrived:
            repairs = [*self._source.repairs, *repairs]
        try:
            source_id = self._own_id(candidate.source_id, repairs)
            shown: list[CheckedPicture] = []
            for image in conversation.images:
                found = seen[image]
                if isinstance(found, ValueError):
                    raise found
                shown.append(found)
                repairs = [*repairs, *found.repairs]
            images = [picture.name for picture in shown]
            skill = conversation.skill or self._source.name
            if self._readable is not None:
                said = tuple([Turn(turn["role"], turn["text"]) for turn in turns])  # type: ignore[arg-type]
                sample = Sample(self._next_id, self._source.name, source_id, skill, tuple(images), said)
                self._readable(sample, [picture.size for picture in shown])
        except ValueError as error:
            self._rejects.add(candidate.position, candidate.record, candidate.source_id, str(error))
            return None
        self._used.add(source_id)
        self._arrived += 1
        hashes = [picture.sha256 for picture in shown]
        row = (
            self._next_id,
            self._round,
            self._source.name,
            source_id,
            skill,
            images,
            turns,
            conversation.references,
            content_hash(turns, hashes),
            question_hash(turns),
            hashes,
            [picture.perceptual_hash for picture in shown],
            repairs,
        )
        self._next_id += 1
        return row

    def _own_id(self, source_id: str, repairs: list[str]) -> str:
        """The id itself, or with a number if it was used before and may be numbered."""
        if source_id not in self._used:
            return source_id
        if self._source.duplicate_ids == "reject":
            raise ValueError("this id was already used by an earlier record of the source")
        number = max(self._numbers[source_id], 1) + 1
        while f"{source_id}#{number}" in self._used:
            number += 1
        self._numbers[source_id] = number
        repairs.append("repeated id numbered")
        return f"{source_id}#{number}"

    def _check_yield(self) -> None:
        name, rejected, reasons = self._source.name, len(self._rejects), self._rejects.reasons()
        if not self._arrived:
            why = f"; the reasons: {reasons}" if rejected else " and no record at all"
            raise ValueError(f"source {name!r} yields no usable sample ({rejected} rejected{why})")
        share = max(rejected / (self._arrived + rejected), self._lost)
        if share > self._params.max_reject_share:
            lost = f" and {self._lost:.0%} of a file could not be read" if self._lost else ""
            raise ValueError(
                f"source {name!r}: {rejected} of {self._arrived + rejected} records are bad{lost}, more than "
                f"intake.max_reject_share ({self._params.max_reject_share:g}); the reasons: {reasons}"
            )
        if self._source.expected not in (None, self._conversations):
            log.warning("source %s: %d samples, %d were expected", name, self._conversations, self._source.expected)


@contextmanager
def _collection(on: bool) -> Iterator[None]:
    """With or without looking for reference cycles: records have none, and looking takes a quarter of intake's time."""
    before = gc.isenabled()
    (gc.enable if on else gc.disable)()
    try:
        yield
    finally:
        (gc.enable if before else gc.disable)()


def _table(rows: list[tuple[Any, ...]]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [()] * len(SAMPLE_SCHEMA)
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, SAMPLE_SCHEMA, strict=True)],
        schema=SAMPLE_SCHEMA,
    )


def _id_of(record: Any) -> str:
    found = record.get("id") if isinstance(record, Mapping) else None
    return str(found) if isinstance(found, str | int) else ""
