"""What removals come to, for whoever has to decide whether they are the right ones."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from adapt_infinity.pool.pool import Pool

QUANTILES = {"lowest": 0.0, "5 %": 0.05, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95, "highest": 1.0}
WORDS = 80  # characters shown of a question, and of an answer


def totals(pool_rows: pd.DataFrame, removals: pd.DataFrame, by: str) -> pd.DataFrame:
    """For each value of a column of `pool_rows`: samples in the pool, leaving, their share, and left."""
    leaves = pool_rows["sample_id"].isin(removals["sample_id"])
    counts = pool_rows.assign(leaves=leaves).groupby(by)["leaves"].agg(["size", "sum"])
    return pd.DataFrame(
        {
            by: list(counts.index),
            "in pool": counts["size"].to_numpy(),
            "leave": counts["sum"].to_numpy(),
            "share": (counts["sum"] / counts["size"]).map("{:.1%}".format).to_numpy(),
            "stay": (counts["size"] - counts["sum"]).to_numpy(),
        }
    )


def reasons(removals: pd.DataFrame) -> pd.DataFrame:
    """How many leave for which reason, and quantiles of the similarity to what they duplicate ("-": there is none)."""
    rows = []
    for reason, group in removals.groupby("reason"):
        known = group["similarity"].dropna()
        rows.append(
            {
                "reason": reason,
                "leave": len(group),
                **{name: f"{known.quantile(q):.4f}" if len(known) else "-" for name, q in QUANTILES.items()},
            }
        )
    return pd.DataFrame(rows, columns=["reason", "leave", *QUANTILES])


def pairs(pool: Pool, removals: pd.DataFrame, count: int) -> Iterator[str]:
    """Some leaving samples, from the most to the least similar, each with what it duplicates, in two lines."""
    known = removals[removals["duplicate_of"] >= 0].sort_values(["similarity", "sample_id"], ascending=[False, True])
    shown = known.iloc[np.unique(np.linspace(0, len(known) - 1, min(count, len(known))).round().astype(int))]
    leaving = set(removals["sample_id"])
    words = ["source", "source_id", "turns"]
    ours = pool.fetch(shown["sample_id"].to_numpy(), words).to_pylist()
    theirs = pool.fetch(shown["duplicate_of"].to_numpy(), words).to_pylist()
    for row, mine, twin in zip(shown.itertuples(), ours, theirs, strict=True):
        fate = "leaves too" if row.duplicate_of in leaving else "stays"
        yield f"{row.similarity:.4f}  leaves      {row.sample_id}  {_told(mine)}"
        yield f"        {fate:<10}  {row.duplicate_of}  {_told(twin)}"


def _told(sample: Mapping[str, Any]) -> str:
    """Where a sample is from, its first question and the answer, shortened."""
    said = {turn["role"]: " ".join(turn["text"].split()) for turn in sample["turns"][1::-1]}
    asked, answer = (_short(said.get(role, "")) for role in ("user", "assistant"))
    return f"{sample['source']}/{sample['source_id']}: {asked} → {answer}"


def _short(text: str) -> str:
    return text if len(text) <= WORDS else f"{text[:WORDS]}…"
