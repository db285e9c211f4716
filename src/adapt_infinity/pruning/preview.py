"""A preview of removals: tables and lines that help a person decide whether they are the right ones."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from adapt_infinity.pool.pool import Pool

QUANTILES = {"lowest": 0.0, "5 %": 0.05, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95, "highest": 1.0}
MAX_CHARACTERS = 80  # shown of a question, and of an answer


def totals(pool_rows: pd.DataFrame, removals: pd.DataFrame, by: str) -> pd.DataFrame:
    """One row per value of the column `by` of `pool_rows`: in pool, leave, share (that leaves), stay.

    `pool_rows` has the columns sample_id and `by`; `removals` is a table of removals.py.
    """
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
    """One row per reason: how many samples leave, and quantiles of the similarity to the samples that they duplicate.

    A quantile is "-" where no sample of that reason has a similarity.
    """
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
    """Two lines for each of at most `count` leaving samples: the sample, and the sample that it duplicates.

    They are spread evenly from the most to the least similar pair.
    """
    known = removals[removals["duplicate_of"] >= 0].sort_values(["similarity", "sample_id"], ascending=[False, True])
    shown = known.iloc[np.unique(np.linspace(0, len(known) - 1, min(count, len(known))).round().astype(int))]
    leaving = set(removals["sample_id"])
    columns = ["source", "source_id", "turns"]
    removed = pool.fetch(shown["sample_id"].to_numpy(), columns).to_pylist()
    duplicated = pool.fetch(shown["duplicate_of"].to_numpy(), columns).to_pylist()
    for row, sample, original in zip(shown.itertuples(), removed, duplicated, strict=True):
        fate = "leaves too" if row.duplicate_of in leaving else "stays"
        yield f"{row.similarity:.4f}  leaves      {row.sample_id}  {_describe(sample)}"
        yield f"        {fate:<10}  {row.duplicate_of}  {_describe(original)}"


def _describe(sample: Mapping[str, Any]) -> str:
    """The source of a sample, its first question and the answer, shortened."""
    texts = {turn["role"]: " ".join(turn["text"].split()) for turn in sample["turns"][1::-1]}
    question, answer = (_shorten(texts.get(role, "")) for role in ("user", "assistant"))
    return f"{sample['source']}/{sample['source_id']}: {question} → {answer}"


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}…"
