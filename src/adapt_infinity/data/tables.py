"""Tables with a row a sample: brought into one order, and read together."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from jaxtyping import Float, Int


def require_columns(table: pd.DataFrame, name: str, columns: Iterable[str]) -> None:
    """Raise a `ValueError` that names every column that `table` lacks; `name` is the table's name in the message."""
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(f"{name} lacks columns: {', '.join(missing)}; it has {', '.join(map(str, table.columns))}")


def align_rows(table: pd.DataFrame, sample_ids: Int[np.ndarray, " n"]) -> pd.DataFrame:
    """The rows of `table` for these samples, in this order; not copied where that is its order already."""
    mine = table["sample_id"].to_numpy()
    if len(mine) == len(sample_ids) and (mine == sample_ids).all():
        return table
    order = np.argsort(mine, kind="stable")
    places = np.searchsorted(mine, sample_ids, sorter=order).clip(max=max(len(mine) - 1, 0))
    rows = order[places] if len(mine) else places
    assert len(sample_ids) == 0 or (mine[rows] == sample_ids).all(), "every sample has a row"
    return table.iloc[rows]


def expert_scores(
    clusters: pd.DataFrame, cluster_experts: pd.DataFrame, scores: pd.DataFrame
) -> tuple[np.ndarray, Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The names of all experts that judge a cluster, which of them judges each row, and the score that it gives.

    `clusters` and `scores` have their rows in one order. A score that is not finite is a `ValueError` that names the
    sample.
    """
    labels, code = np.unique(clusters["cluster"].to_numpy(), return_inverse=True)
    chosen = cluster_experts[cluster_experts["chosen"]].set_index("cluster")["expert"].loc[labels]
    experts, expert_of = np.unique(chosen.to_numpy(dtype=object), return_inverse=True)
    judge = expert_of[code]
    score = np.empty(len(judge))
    for place, name in enumerate(experts):
        mine = judge == place
        score[mine] = scores[name].to_numpy(dtype=np.float64)[mine]
    bad = np.flatnonzero(~np.isfinite(score))
    if len(bad):
        worst = bad[np.argmin(scores["sample_id"].to_numpy()[bad])]
        found = f"{experts[judge[worst]]!r} = {score[worst]} of sample {scores['sample_id'].iloc[worst]}"
        raise ValueError(f"{len(bad)} scores are not finite, first {found}")
    return experts, judge, score
