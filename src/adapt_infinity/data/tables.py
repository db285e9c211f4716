"""Tables with one row per sample: checked for their columns, and brought into the same row order."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from jaxtyping import Int


def require_columns(table: pd.DataFrame, name: str, columns: Iterable[str]) -> None:
    """Raise a `ValueError` that names every column that `table` lacks; `name` is the table's name in the message."""
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(f"{name} lacks columns: {', '.join(missing)}; it has {', '.join(map(str, table.columns))}")


def align_rows(table: pd.DataFrame, sample_ids: Int[np.ndarray, " n"]) -> pd.DataFrame:
    """The rows of `table` (one per sample) for `sample_ids`, in this order. The table itself if it has that order.

    `ValueError` when `table` has no column `sample_id`, or lacks one of the samples (named).
    """
    require_columns(table, "a table with one row per sample", ["sample_id"])
    table_ids = table["sample_id"].to_numpy()
    if len(table_ids) == len(sample_ids) and (table_ids == sample_ids).all():
        return table
    order = np.argsort(table_ids, kind="stable")
    positions = np.searchsorted(table_ids, sample_ids, sorter=order)
    known = positions < len(table_ids)
    known[known] = table_ids[order[positions[known]]] == sample_ids[known]
    if not known.all():
        raise ValueError(f"a table with one row per sample has no row for sample {sample_ids[~known][0]}")
    return table.iloc[order[positions]]
