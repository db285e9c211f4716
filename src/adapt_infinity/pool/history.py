"""The history of the pool: its composition, what each round added and removed, and the events of one sample."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from adapt_infinity.pool.pool import REMOVED, RESTORED, Pool
from adapt_infinity.pool.references import resolve


@dataclass(frozen=True, kw_only=True)
class RoundRecord:
    """The tables of a finished round. A table that the round's strategy does not make is None."""

    number: int
    version: str  # of `kept_pool`
    joined_pool: Pool  # the samples kept so far and the arrivals
    kept_pool: Pool  # the pool after pruning
    rejected: int = 0  # records that intake rejected
    subset: pd.DataFrame | None = None
    cluster_experts: pd.DataFrame | None = None
    overlaps: pd.DataFrame | None = None


def composition(pool: Pool, by: str) -> pd.DataFrame:
    """How many samples arrived, and how many of them are in the pool, by `source` or by `skill` (the value of `by`).

    Columns: source or skill, arrived, in pool, share (of the pool, as text).
    """
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


def summarise_clusters(record: RoundRecord) -> pd.DataFrame:
    """One row per cluster of the round; empty when its strategy makes no clusters.

    Columns: cluster, samples, trained on, in pool (after pruning), most frequent skill.
    """
    if record.subset is None or (record.subset["cluster"] < 0).all():
        return pd.DataFrame(columns=["cluster", "samples", "trained on", "in pool", "most frequent skill"])
    present = record.kept_pool.present[record.subset["sample_id"].to_numpy()]
    by = record.subset.assign(present=present).groupby("cluster")
    return pd.DataFrame(
        {
            "cluster": list(by.groups),
            "samples": by.size().to_numpy(),
            "trained on": by["selected"].sum().to_numpy(),
            "in pool": by["present"].sum().to_numpy(),
            "most frequent skill": by["skill"].agg(lambda skills: skills.mode().iloc[0]).to_numpy(),
        }
    )


def history(records: Sequence[RoundRecord]) -> pd.DataFrame:
    """One row per round: how many samples arrived, were trained on, pruned, restored and kept.

    Columns: round, arrived, rejected (records, by intake), pool (samples before pruning), trained on, pruned, restored,
    kept (samples after pruning), version (of the kept pool).
    """
    rows = []
    for record in records:
        ledger = record.kept_pool.ledger_table
        actions = ledger[ledger["round"] == record.number]["action"].value_counts()
        rows.append(
            {
                "round": record.number,
                "arrived": int((record.joined_pool.arrived["round"] == record.number).sum()),
                "rejected": record.rejected,
                "pool": len(record.joined_pool),
                "trained on": 0 if record.subset is None else int(record.subset["selected"].sum()),
                "pruned": int(actions.get(REMOVED, 0)),
                "restored": int(actions.get(RESTORED, 0)),
                "kept": len(record.kept_pool),
                "version": record.version,
            }
        )
    return pd.DataFrame(rows)


def difference(before: Pool, after: Pool) -> pd.DataFrame:
    """How many samples were added and removed from the pool `before` to the pool `after`, by source and skill.

    Columns: source, skill, added, dropped. Groups without a change are left out. Both are pools of one stream.
    """
    size = max(before.size, after.size)
    index = before.arrived if before.size == size else after.arrived
    in_before, in_after = (np.pad(pool.present, (0, size - pool.size)) for pool in (before, after))
    changed = index.assign(added=in_after & ~in_before, dropped=in_before & ~in_after)
    counts = changed.groupby(["source", "skill"], sort=False)[["added", "dropped"]].sum()
    return counts[counts.any(axis=1)].reset_index()


def find_sample(pool: Pool, name: str) -> int:
    """The id of the sample that `name` refers to (its number, or `source/id`); `ValueError` when it is not one."""
    found = resolve(pool, [name])
    if len(found) != 1:
        raise ValueError(f"{name!r} names {len(found)} samples; name one sample, by its number or as source/id")
    return int(found[0])


def sample_history(sample_id: int, records: Sequence[RoundRecord], items: pd.DataFrame) -> Iterator[str]:
    """The events of one sample, one line each, from its arrival on.

    For each round: overlaps with other samples or test items, its cluster, expert and score, whether it was trained on,
    and whether it was pruned (with the reason) or restored. `items` are the benchmark items.
    """
    pool = records[-1].kept_pool
    (row,) = pool.fetch([sample_id]).to_pylist()
    yield f"sample {sample_id}: {row['source']}/{row['source_id']}, skill {row['skill']}"
    for turn in row["turns"]:
        yield f"  {turn['role']}: {' '.join(turn['text'].split())[:200]}"
    if row["images"]:
        yield f"  pictures: {', '.join(row['images'])}"
    repaired = f"; repaired: {', '.join(row['repairs'])}" if row["repairs"] else ""
    yield f"round {row['round']}: arrived{repaired}"
    for record in records:
        ledger = record.kept_pool.ledger_table
        entries = ledger[(ledger["sample_id"] == sample_id) & (ledger["round"] == record.number)]
        events = [
            *_overlap_events(sample_id, record, items),
            *_selection_events(sample_id, record),
            *map(_ledger_event, entries.to_dict("records")),
        ]
        yield from (f"round {record.number}: {event}" for event in events)
    yield "now: in the pool" if pool.present[sample_id] else "now: not in the pool"


def _overlap_events(sample_id: int, record: RoundRecord, items: pd.DataFrame) -> Iterator[str]:
    """The sample's overlaps with earlier samples and with test items, found when it arrived."""
    if record.overlaps is None:
        return
    for overlap in record.overlaps[record.overlaps["sample_id"] == sample_id].to_dict("records"):
        other = f"sample {overlap['other']}"
        if overlap["scope"] == "benchmark":
            item = items.iloc[overlap["other"]]
            other = f"test item {item['source']}/{item['source_id']}"
        bits = f", perceptual hashes differ in {overlap['bits']} bits" if overlap["bits"] else ""
        yield f"{overlap['kind']} of {other}{bits}"


def _selection_events(sample_id: int, record: RoundRecord) -> Iterator[str]:
    """The sample's cluster, expert and score, and whether it was trained on."""
    if record.subset is None:
        return
    for row in record.subset[record.subset["sample_id"] == sample_id].to_dict("records"):
        trained = "trained on" if row["selected"] else "not trained on"
        if row["cluster"] < 0:
            yield f"{trained} (this strategy makes no clusters)"
            continue
        size = int((record.subset["cluster"] == row["cluster"]).sum())
        yield (
            f"cluster {row['cluster']} of {size} samples, {_expert_and_entropies(row, record)}, "
            f"score {row['score']:.4g}, stratum {row['stratum']}: {trained}"
        )


def _expert_and_entropies(row: Mapping[Any, Any], record: RoundRecord) -> str:
    """The expert of the sample's cluster, and the entropies by which it was chosen."""
    if record.cluster_experts is None:
        return f"expert {row['expert']}"
    ranked = record.cluster_experts[record.cluster_experts["cluster"] == row["cluster"]].sort_values("rank")
    entropies = ", ".join(
        f"{name} {entropy:.2f}" for name, entropy in zip(ranked["expert"], ranked["entropy"], strict=True)
    )
    return f"expert {row['expert']} (entropies: {entropies})"


def _ledger_event(entry: Mapping[Any, Any]) -> str:
    """A removal or restoration, with its reason and the kept sample that the removed one duplicates."""
    if entry["action"] == RESTORED:
        return f"restored ({entry['reason']})"
    duplicate_of = entry["duplicate_of"]
    if pd.isna(duplicate_of) or duplicate_of < 0:
        return f"pruned: {entry['reason']}"
    return f"pruned: {entry['reason']}; resembles sample {int(duplicate_of)}, similarity {entry['similarity']:.4f}"
