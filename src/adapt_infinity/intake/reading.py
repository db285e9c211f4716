"""Reading a source: every record is checked, repaired where that is safe, and accepted or rejected with a reason.

The accepted samples (arrivals) and the rejects together account for every record of the source. A source is read once,
and one block of its records is in memory at a time. Each arrival carries the hashes of its content, of its questions'
words and of its pictures, so that later stages need not read it again.

Repairs, which are listed in the column `repairs` of a sample:
- a system prompt is put before the question that follows it;
- an answer before the first question and a question after the last answer are removed;
- pictures without any placeholder are put before the first question;
- where every question repeats the placeholder of a conversation's only picture, the first one is kept;
- pictures are rotated upright and converted to RGB, each time they are opened (data/pictures.py);
- a byte order mark at the beginning of a file is skipped;
- with `duplicate_ids: number`, a repeated id gets a number ("7", "7#2"); by default the record is rejected.
"""

import gc
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import pandas as pd
import pyarrow as pa
from annotated_types import Ge, Le
from tqdm import tqdm

from adapt_infinity.data.pictures import CheckedPicture, Pictures
from adapt_infinity.data.sample import SAMPLE_SCHEMA, Sample, Turn, content_hash
from adapt_infinity.intake import formats
from adapt_infinity.intake.conversation import check_or_repair, check_unicode, question_hash
from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.rejects import Rejects
from adapt_infinity.intake.streaming_json import Unreadable
from adapt_infinity.parameters import PositiveInt, Share, check

log = logging.getLogger(__name__)

BLOCK = 2048  # records that are checked together
CACHED_PICTURES = 100_000  # picture paths whose check is cached
DUPLICATE_IDS = ("reject", "number")

# called with a sample and the sizes of its pictures; raises a ValueError for a sample that the model cannot read
SampleCheck = Callable[[Sample, list[tuple[int, int]]], None]


@dataclass(frozen=True)
class Source:
    """A dataset to be read: its name, its format, and its raw records in file order."""

    name: str
    format: str
    records: Iterable[Any]
    graders: Mapping[str, str]  # for each tested skill, the grader of its test items
    options: Mapping[str, Any] = field(default_factory=dict)  # of the format's `parse` function
    duplicate_ids: str = "reject"  # or "number"
    expected: int | None = None  # number of samples, rejected ones included; another number is logged as a warning
    repairs: tuple[str, ...] = ()  # of its files; recorded with the first arrival

    def __post_init__(self) -> None:
        if self.duplicate_ids not in DUPLICATE_IDS:
            raise ValueError(f"sources: duplicate_ids of {self.name} is one of {DUPLICATE_IDS}: {self.duplicate_ids!r}")


@dataclass(frozen=True, kw_only=True)
class IntakeParams:
    """params:intake."""

    SECTION: ClassVar[str] = "intake"

    max_text: PositiveInt = 100_000  # characters in one conversation
    max_reject_share: Share = 0.5  # a source with a greater share of rejected records stops the round
    # pictures look alike when their perceptual hashes differ in at most so many of 240 bits
    near_bits: Annotated[int, Ge(0), Le(64)] = 10
    on_contamination: Literal["report", "stop"] = "report"  # what to do when a test item is among the arrivals
    workers: PositiveInt = 2  # threads that decode pictures

    def __post_init__(self) -> None:
        check(self)


def check_records(
    source: Source,
    pictures: Pictures,
    params: IntakeParams,
    *,
    round: int = 0,
    first_id: int = 0,
    known_ids: Set[str] = frozenset(),
    check_sample: SampleCheck | None = None,
) -> tuple[Iterator[pa.Table], Iterator[pa.Table]]:
    """The arrivals (schema `SAMPLE_SCHEMA`) and the rejects (schema `REJECT_SCHEMA`) of a source, as streams of tables.

    Arrivals are in file order and numbered from `first_id`. The source is read while the arrivals are iterated over;
    the rejects are available after that. Records are rejected, with one of these reasons:
    - the record cannot be parsed, or lacks a field that its format needs;
    - its turns do not alternate between user and assistant, or one of them is empty;
    - the numbers of placeholders and pictures differ;
    - a picture is missing, unreadable, too large, or outside its source's root folder;
    - the text is longer than `params.max_text`, or `check_sample` raises a `ValueError`;
    - the source used the id before, in this round or in an earlier one (`known_ids`).
    Samples of equal content are accepted, because redundancy is removed by pruning. At the end of the arrivals a
    `ValueError` is raised when there was none, or when too large a share was rejected (`params.max_reject_share`).
    """
    reader = _SourceReader(source, pictures, params, round, first_id, set(known_ids), check_sample)
    return reader.arrivals(), reader.rejects()


def to_dataframe(stream: Iterator[pa.Table]) -> pd.DataFrame:
    """All tables of a stream (at least one, which may be empty) as one DataFrame in memory."""
    tables = list(stream)
    assert tables, "a stream has at least one table, which may be empty"
    return pa.concat_tables(tables).to_pandas()


class _Candidate(NamedTuple):
    """A conversation whose turns are in order, and whose pictures are still to be checked."""

    position: int  # of the record in its source
    record: Any
    source_id: str
    conversation: Conversation
    turns: list[dict[str, str]]  # after repairs
    repairs: list[str]


class _SourceReader:
    """Reads a source once, and counts what arrived and what was rejected."""

    def __init__(
        self,
        source: Source,
        pictures: Pictures,
        params: IntakeParams,
        round: int,
        first_id: int,
        used_ids: set[str],
        check_sample: SampleCheck | None,
    ) -> None:
        self._source, self._pictures, self._params, self._round = source, pictures, params, round
        self._next_id, self._used_ids, self._check_sample = first_id, used_ids, check_sample
        self._parse = formats.load(source.format, source.options)
        self._checked: dict[str, CheckedPicture] = {}  # by path
        self._last_numbers: Counter[str] = Counter()  # that were added to repeated ids
        self._rejects = Rejects(source.name)
        self._conversations = self._arrived = 0
        self._lost_share = 0.0
        self._finished = False

    def arrivals(self) -> Iterator[pa.Table]:
        """The accepted samples of each block of records, as a table that may be empty."""
        numbered = enumerate(tqdm(self._source.records, f"reading {self._source.name}", unit="row", disable=None))
        with ThreadPoolExecutor(self._params.workers) as threads:
            while True:
                with _garbage_collection(enabled=False):
                    table = self._next_block(numbered, threads)
                if table is None:
                    break
                yield table
        self._finished = True
        self._check_counts()

    def _next_block(self, numbered: Iterator[tuple[int, Any]], threads: ThreadPoolExecutor) -> pa.Table | None:
        """The accepted samples of the next block of records, or None at the end of the source."""
        block = list(islice(numbered, BLOCK))
        candidates = [found for position, record in block for found in self._candidates(position, record)]
        checked = self._check_pictures(candidates, threads)
        rows = [row for candidate in candidates if (row := self._row(candidate, checked)) is not None]
        return _table(rows) if block else None

    def rejects(self) -> Iterator[pa.Table]:
        """The rejects, once all arrivals have been read."""
        assert self._finished, "arrivals must be read before rejects"
        yield from self._rejects.tables()

    def _candidates(self, position: int, record: Any) -> list[_Candidate]:
        """The conversations in a record whose turns are in order; the others are rejected."""
        if isinstance(record, Unreadable):
            self._lost_share = max(self._lost_share, record.lost_share)
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
        for index, conversation in enumerate(conversations):
            try:
                for name in (conversation.source_id, conversation.skill, *conversation.references):
                    if not name.isascii():
                        check_unicode(name)
                turns, repairs = check_or_repair(conversation.turns, len(conversation.images), self._params.max_text)
            except ValueError as error:
                self._rejects.add(position, record, conversation.source_id, str(error))
                continue
            source_id = conversation.source_id or (f"{position}" if single else f"{position}-{index}")
            found.append(_Candidate(position, record, source_id, conversation, turns, repairs))
        return found

    def _check_pictures(
        self, candidates: list[_Candidate], threads: ThreadPoolExecutor
    ) -> dict[str | bytes, CheckedPicture | ValueError]:
        """Check each distinct picture of a block, in several threads. A picture that fails comes with its error."""
        wanted = dict.fromkeys(image for candidate in candidates for image in candidate.conversation.images)
        if not wanted:
            return {}
        known: dict[str | bytes, CheckedPicture | ValueError] = {
            image: self._checked[image] for image in wanted if isinstance(image, str) and image in self._checked
        }
        new = [image for image in wanted if image not in known]
        with _garbage_collection(enabled=True):  # Pillow's decoders may leave reference cycles
            found = dict(zip(new, threads.map(self._check_picture, new), strict=True))
        if len(self._checked) > CACHED_PICTURES:
            self._checked.clear()
        self._checked |= {
            image: picture
            for image, picture in found.items()
            if isinstance(picture, CheckedPicture) and isinstance(image, str)
        }
        return known | found

    def _check_picture(self, image: str | bytes) -> CheckedPicture | ValueError:
        try:
            return self._pictures.check(self._source.name, image)
        except ValueError as error:
            return error

    def _row(
        self, candidate: _Candidate, checked: Mapping[str | bytes, CheckedPicture | ValueError]
    ) -> tuple[Any, ...] | None:
        """The row of an accepted sample, in the order of `SAMPLE_SCHEMA`; None when the candidate is rejected."""
        conversation, turns, repairs = candidate.conversation, candidate.turns, candidate.repairs
        if not self._arrived:
            repairs = [*self._source.repairs, *repairs]
        try:
            source_id = self._unique_id(candidate.source_id, repairs)
            pictures: list[CheckedPicture] = []
            for image in conversation.images:
                found = checked[image]
                if isinstance(found, ValueError):
                    raise found
                pictures.append(found)
                repairs = [*repairs, *found.repairs]
            images = [picture.name for picture in pictures]
            skill = conversation.skill or self._source.name
            if self._check_sample is not None:
                said = tuple([Turn(turn["role"], turn["text"]) for turn in turns])  # type: ignore[arg-type]
                sample = Sample(self._next_id, self._source.name, source_id, skill, tuple(images), said)
                self._check_sample(sample, [picture.size for picture in pictures])
        except ValueError as error:
            self._rejects.add(candidate.position, candidate.record, candidate.source_id, str(error))
            return None
        self._used_ids.add(source_id)
        self._arrived += 1
        hashes = [picture.sha256 for picture in pictures]
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
            [picture.perceptual_hash for picture in pictures],
            repairs,
        )
        self._next_id += 1
        return row

    def _unique_id(self, source_id: str, repairs: list[str]) -> str:
        """The id, or the id with a number if it is repeated and the source allows it; `ValueError` if it does not."""
        if source_id not in self._used_ids:
            return source_id
        if self._source.duplicate_ids == "reject":
            raise ValueError("this id was already used by an earlier record of the source")
        number = max(self._last_numbers[source_id], 1) + 1
        while f"{source_id}#{number}" in self._used_ids:
            number += 1
        self._last_numbers[source_id] = number
        repairs.append("number added to a repeated id")
        return f"{source_id}#{number}"

    def _check_counts(self) -> None:
        """`ValueError` when nothing arrived or too much was rejected; a warning when the number is not the expected."""
        name, rejected, reasons = self._source.name, len(self._rejects), self._rejects.reasons()
        if not self._arrived:
            why = f"; the reasons: {reasons}" if rejected else ", because it has no records"
            raise ValueError(f"source {name!r} yields no usable sample ({rejected} rejected{why})")
        share = max(rejected / (self._arrived + rejected), self._lost_share)
        if share > self._params.max_reject_share:
            lost = f" and {self._lost_share:.0%} of a file could not be read" if self._lost_share else ""
            raise ValueError(
                f"source {name!r}: {rejected} of {self._arrived + rejected} records were rejected{lost}, more than "
                f"intake.max_reject_share ({self._params.max_reject_share:g}); the reasons: {reasons}"
            )
        if self._source.expected not in (None, self._conversations):
            log.warning(
                "source %s has %d samples, but %d are expected", name, self._conversations, self._source.expected
            )


@contextmanager
def _garbage_collection(*, enabled: bool) -> Iterator[None]:
    """Switch Python's search for reference cycles on or off. Records have none, and it takes a quarter of the time."""
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
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
