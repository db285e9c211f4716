"""What became of the pool: its composition, what each round added and dropped, and the life of one sample."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from adapt_infinity.pool.pool import REMOVED, Pool
from adapt_infinity.pool.references import resolve


@dataclass(frozen=True, kw_only=True)
class RoundRecord:
    """A finished round, as its tables tell it; those that its strategy does not make are None."""

    number: int
    version: str  # of the pool that it left
    joined: Pool  # survivors and arrivals
    kept: Pool  # what it left
    rejected: int = 0  # records set aside at intake
    subset: pd.DataFrame | None = None
    cluster_experts: pd.DataFrame | None = None
    overlaps: pd.DataFrame | None = None


def composition(pool: Pool, by: str) -> pd.DataFrame:
    """How many samples arrived and are in the pool, by `source` or `skill`."""
    arrived = pool.arrived.groupby(by, sort=False).size()
    present = pool.index.groupby(by).size().reindex(arrived.index, fill_value=0)
    share = present / max(len(pool), 1)
    return pd.DataFrame(
        {
            by: arrived.index,
            "arrived": arrived.to_numpy(),
            "in pool": present.to_numpy(),
            "share": share.map("{:.1%}".format),
        }
    ).reset_index(drop=True)


def clusters_left(record: RoundRecord) -> pd.DataFrame:
    """By cluster of the round: samples, trained on, left in the pool, and its most frequent skill."""
    if record.subset is None or (record.subset["cluster"] < 0).all():
        return pd.DataFrame(columns=["cluster", "samples", "trained on", "in pool", "mostly"])
    present = record.kept.present[record.subset["sample_id"].to_numpy()]
    by = record.subset.assign(present=present).groupby("cluster")
    return pd.DataFrame(
        {
            "cluster": list(by.groups),
            "samples": by.size().to_numpy(),
            "trained on": by["selected"].sum().to_numpy(),
            "in pool": by["present"].sum().to_numpy(),
            "mostly": by["skill"].agg(lambda skills: skills.mode().iloc[0]).to_numpy(),
        }
    )


def history(records: Sequence[RoundRecord]) -> pd.DataFrame:
    """A row a round: what arrived, was set aside, was trained on, left, came back, stayed; and the pool's version."""
    rows = []
    for record in records:
        entries = record.kept.record
        mine = entries[entries["round"] == record.number]["action"].value_counts()
        rows.append(
            {
                "round": record.number,
                "arrived": int((record.joined.arrived["round"] == record.number).sum()),
                "rejected": record.rejected,
                "pool": len(record.joined),
                "trained on": 0 if record.subset is None else int(record.subset["selected"].sum()),
                "pruned": int(mine.get("removed", 0)),
                "restored": int(mine.get("restored", 0)),
                "kept": len(record.kept),
                "version": record.version,
            }
        )
    return pd.DataFrame(rows)


def difference(before: Pool, after: Pool) -> pd.DataFrame:
    """By source and skill: samples that are in `after` and not in `before`, and the other way round."""
    size = max(before.size, after.size)
    index = before.arrived if before.size == size else after.arrived
    was, is_now = (np.pad(pool.present, (0, size - pool.size)) for pool in (before, after))
    changed = index.assign(added=is_now & ~was, dropped=was & ~is_now)
    counts = changed.groupby(["source", "skill"], sort=False)[["added", "dropped"]].sum()
    return counts[counts.any(axis=1)].reset_index()


def find_sample(pool: Pool, name: str) -> int:
    """A sample by its number, or by `source/id`."""
    found = resolve(pool, [name])
    if len(found) != 1:
        raise ValueError(f"{name!r} names {len(found)} samples; name one by its number, or as source/id")
    return int(found[0])


def life(sample_id: int, records: Sequence[RoundRecord], items: pd.DataFrame) -> Iterator[str]:
    """A sample from its arrival on, a line an event: cluster, expert, score, chosen or not, dropped and why."""
    pool = records[-1].kept
    (row,) = pool.fetch([sample_id]).to_pylist()
    yield f"sample {sample_id}: {row['source']}/{row['source_id']}, skill {row['skill']}"
    for turn in row["turns"]:
        yield f"  {turn['role']}: {' '.join(turn['text'].split())[:200]}"
    if row["images"]:
        yield f"  pictures: {', '.join(row['images'])}"
    mended = f"; mended: {', '.join(row['repairs'])}" if row["repairs"] else ""
    yield f"round {row['round']}: arrived{mended}"
    for record in records:
        yield from _met(sample_id, record, items)
        yield from _judged(sample_id, record)
        entries = record.kept.record
        for entry in entries[(entries["sample_id"] == sample_id) & (entries["round"] == record.number)].to_dict(
            "records"
        ):
            yield f"round {record.number}: {_entry(entry)}"
    yield "now: in the pool" if pool.present[sample_id] else "now: not in the pool"


def _met(sample_id: int, record: RoundRecord, items: pd.DataFrame) -> Iterator[str]:
    if record.overlaps is None:
        return
    for overlap in record.overlaps[record.overlaps["sample_id"] == sample_id].to_dict("records"):
        other = f"sample {overlap['other']}"
        if overlap["scope"] == "benchmark":
            item = items.iloc[overlap["other"]]
            other = f"test item {item['source']}/{item['source_id']}"
        yield f"round {record.number}: {overlap['kind']} of {other}" + (
            f", {overlap['bits']} bits off" if overlap["bits"] else ""
        )


def _judged(sample_id: int, record: RoundRecord) -> Iterator[str]:
    if record.subset is None:
        return
    for row in record.subset[record.subset["sample_id"] == sample_id].to_dict("records"):
        chosen = "trained on" if row["selected"] else "not trained on"
        if row["cluster"] < 0:
            yield f"round {record.number}: {chosen} (no clusters under this strategy)"
            continue
        size = int((record.subset["cluster"] == row["cluster"]).sum())
        yield (
            f"round {record.number}: cluster {row['cluster']} of {size} samples, {_expert(row, record)}, "
            f"score {row['score']:.4g}, stratum {row['stratum']}: {chosen}"
        )


def _expert(row: Mapping[Any, Any], record: RoundRecord) -> str:
    """The cluster's expert, with the entropies by which it was chosen."""
    if record.cluster_experts is None:
        return f"expert {row['expert']}"
    ranked = record.cluster_experts[record.cluster_experts["cluster"] == row["cluster"]].sort_values("rank")
    entropies = ", ".join(
        f"{name} {entropy:.2f}" for name, entropy in zip(ranked["expert"], ranked["entropy"], strict=True)
    )
    return f"expert {row['expert']} (entropies: {entropies})"


def _entry(entry: Mapping[Any, Any]) -> str:
    if entry["action"] != REMOVED:
        return f"restored ({entry['reason']})"
    twin = entry["duplicate_of"]
    if pd.isna(twin) or twin < 0:
        return f"pruned: {entry['reason']}"
    return f"pruned: {entry['reason']}; resembles sample {int(twin)}, similarity {entry['similarity']:.4f}"
