"""Raw data as it lies on disk: the stream's sources and their pictures. Read only; nothing here is ever written."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro.io.core import AbstractDataset

from adapt_infinity.intake import Source
from adapt_infinity.pictures import Pictures


class SourcesDataset(AbstractDataset[Any, list[Source]]):
    """The records of one split (`train` or `test`): of the source that arrives in `round`, or of all when it is null.

    `sources` lists, in order of arrival, entries of `name`, `format`, `train`, `test` (files below `filepath`) and
    `graders` (skill → grader). A source without `train` only brings test items and is no arrival. `limit` takes the
    first so many training records of a large source.
    """

    def __init__(
        self,
        *,
        filepath: str,
        sources: list[dict[str, Any]],
        split: str,
        round: int | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._root = Path(filepath)
        self._sources = [dict(source) for source in sources]
        self._split = split
        self._round = round
        self.metadata = metadata

    def load(self) -> list[Source]:
        return [
            Source(source["name"], source["format"], self._records(source), dict(source.get("graders") or {}))
            for source in self._chosen()
        ]

    def save(self, data: Any) -> None:
        raise NotImplementedError("sources are read, never written")

    def _chosen(self) -> list[dict[str, Any]]:
        with_split = [source for source in self._sources if source.get(self._split)]
        if self._round is None:
            return with_split
        if not 1 <= self._round <= len(with_split):
            raise ValueError(f"the stream has {len(with_split)} arrivals; there is none for round {self._round}")
        return [with_split[self._round - 1]]

    def _records(self, source: Mapping[str, Any]) -> list[Any]:
        path = self._root / source[self._split]
        if not path.is_file():
            raise ValueError(f"source {source['name']!r}: there is no file {path}")
        try:
            records = json.loads(path.read_text(encoding="utf-8-sig"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"source {source['name']!r}: {path.name} is not JSON in UTF-8: {error}") from error
        if not isinstance(records, list):
            raise ValueError(f"source {source['name']!r}: {path.name} is not a list of records")
        limit = source.get("limit") if self._split == "train" else None
        return records[:limit]

    def _exists(self) -> bool:
        return all((self._root / source[self._split]).is_file() for source in self._chosen())

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._root), "split": self._split, "round": self._round}


class PicturesDataset(AbstractDataset[Any, Pictures]):
    """The folder below which each source's pictures lie (`filepath`, or the source's own `pictures` below it)."""

    def __init__(
        self, *, filepath: str, sources: list[dict[str, Any]], max_pixels: int, metadata: dict[str, Any] | None = None
    ) -> None:
        self._root = Path(filepath)
        self._sources = [dict(source) for source in sources]
        self._max_pixels = max_pixels
        self.metadata = metadata

    def load(self) -> Pictures:
        roots = {source["name"]: self._root / source.get("pictures", "") for source in self._sources}
        return Pictures(roots, self._max_pixels)

    def save(self, data: Any) -> None:
        raise NotImplementedError("pictures are read, never written")

    def _exists(self) -> bool:
        return self._root.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._root), "max_pixels": self._max_pixels}
