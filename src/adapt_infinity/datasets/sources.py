"""Raw data: the records of the stream's sources, their pictures, and folders. None of these datasets can be saved."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from kedro.io.core import AbstractDataset

from adapt_infinity.data.pictures import Pictures
from adapt_infinity.intake import formats
from adapt_infinity.intake.reading import DUPLICATE_IDS, Source
from adapt_infinity.intake.records import Records, files
from adapt_infinity.parameters import OneOf, PositiveInt, check_sections

SOURCE: dict[str, Any] = {  # key of an entry of `sources` in globals.yml → its type
    "name": str,
    "format": Annotated[str, OneOf(formats.names)],
    **dict.fromkeys(("train", "validation", "test", "pictures"), str),  # files, and the folder of the pictures
    **dict.fromkeys(("options", "test_options"), dict[str, Any]),  # of the format
    "join": dict[str, str],
    "limit": PositiveInt,
    "graders": dict[str, str],
    "rare": list[str],
    "duplicate_ids": Literal[DUPLICATE_IDS],
    "expected": dict[str, int | str],
}


def check_source(entry: Mapping[str, Any]) -> None:
    """`ValueError` for an entry of `sources` without name or format, and for an unknown key or a wrong value."""
    for key in ("name", "format"):
        if not entry.get(key):
            raise ValueError(f"sources: an entry has no {key!r}: {dict(entry)}")
    given = {key: value for key, value in entry.items() if value is not None}
    check_sections(given, SOURCE, f"sources.{entry['name']}")


class SourcesDataset(AbstractDataset[Any, list[Source]]):
    """Records of one split (`train`, `validation`, `test`) of the source that arrives in `round`, or of all (null).

    `sources` lists entries in order of arrival; docs/your_data.md says what an entry may have. A source without `train`
    only has test items and is no arrival. Records are read from their files one by one, when they are used.

    ValueError on loading for an unknown key, format or option, for a missing file, and for a round without arrival.
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
        return [self._source(entry) for entry in self._entries()]

    def save(self, data: Any) -> None:
        raise NotImplementedError("sources are read only")

    def _source(self, entry: Mapping[str, Any]) -> Source:
        check_source(entry)
        options = dict(entry.get("options") or {})
        if self._split == "test":
            options |= entry.get("test_options") or {}
        formats.load(entry["format"], options)  # checks format and options before any file is read
        limit = entry.get("limit") if self._split == "train" else None
        records = self._records(entry, limit)
        return Source(
            name=entry["name"],
            format=entry["format"],
            records=records,
            graders=dict(entry.get("graders") or {}),
            options=options,
            duplicate_ids=entry.get("duplicate_ids") or "reject",
            expected=(entry.get("expected") or {}).get(self._split) if limit is None else None,
            repairs=("byte order mark skipped",) if records.has_byte_order_mark else (),
        )

    def _records(self, entry: Mapping[str, Any], limit: int | None) -> Records:
        format_module = formats.module(entry["format"])
        path = self._root / entry[self._split]
        join = entry.get("join") or {}
        joined = self._root / join[self._split] if join.get(self._split) else None
        for file in (path, joined):
            if file is not None and not files(file):
                raise ValueError(f"source {entry['name']!r}: there is no file {file}")
        return Records(
            path=path,
            list_key=getattr(format_module, "LIST_KEY", ""),
            by_key=getattr(format_module, "RECORDS_BY_KEY", False),
            limit=limit,
            join=joined,
            join_list_key=join.get("under", ""),
            join_on=join.get("by", ""),
        )

    def _entries(self) -> list[dict[str, Any]]:
        with_split = [source for source in self._sources if source.get(self._split)]
        if self._round is None:
            return with_split
        if not 1 <= self._round <= len(with_split):
            raise ValueError(f"the stream has {len(with_split)} arrivals; round {self._round} has none")
        return [with_split[self._round - 1]]

    def _exists(self) -> bool:
        return all(files(self._root / source[self._split]) for source in self._entries())

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._root), "split": self._split, "round": self._round}


class PicturesDataset(AbstractDataset[Any, Pictures]):
    """The folders of the sources' pictures: `filepath`, or the folder `pictures` of a source below it.

    Pictures that are inside records or, with `allow_urls`, on the internet, are saved in `store`. A picture with more
    than `max_pixels` pixels is rejected.
    """

    def __init__(
        self,
        *,
        filepath: str,
        sources: list[dict[str, Any]],
        max_pixels: int,
        store: str | None = None,
        allow_urls: bool = False,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._root = Path(filepath)
        self._sources = [dict(source) for source in sources]
        self._max_pixels = max_pixels
        self._store = None if store is None else Path(store)
        self._allow_urls = allow_urls
        self.metadata = metadata

    def load(self) -> Pictures:
        roots = {source["name"]: self._root / (source.get("pictures") or "") for source in self._sources}
        return Pictures(roots, self._max_pixels, self._store, self._allow_urls)

    def save(self, data: Any) -> None:
        raise NotImplementedError("pictures are saved one by one by intake")

    def _exists(self) -> bool:
        return self._root.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._root), "max_pixels": self._max_pixels, "store": self._store}


class FolderDataset(AbstractDataset[Any, Path]):
    """An existing folder, such as the project's; loading returns its path."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._folder = Path(filepath)
        self.metadata = metadata

    def load(self) -> Path:
        return self._folder

    def save(self, data: Any) -> None:
        raise NotImplementedError("a folder is read only")

    def _exists(self) -> bool:
        return self._folder.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder)}
