"""Comparisons from the long table: means over seeds with intervals, and differences from one strategy or method."""

from typing import Any

import numpy as np
import pandas as pd

from adapt_infinity.data.tables import require_columns
from adapt_infinity.study.results import COLUMNS, COSTS, LAST
from adapt_infinity.study.statistics import Ranks, estimate, holm, paired, ranked

RATES = ("relative gain", "forgetting rate")  # in percent already
SUMMARY = ["strategy", "method", "view", "measure", "mean", "half", "seeds", "undefined"]
DIFFERENCE = ["strategy", "method", "view", "measure", "mean", "half", "seeds", "p", "p_holm"]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds with the half-width of the 95 % t interval; columns SUMMARY.

    If a measure is undefined for a seed, the mean is undefined; the column `undefined` has the reason.
    """
    require_columns(table, "the long table of a study", COLUMNS)
    rows = []
    for key, part in table.groupby(["strategy", "method", "view", "measure"], sort=False):
        why = "; ".join(dict.fromkeys(reason for reason in part["undefined"] if reason))
        if why:
            rows.append((*key, np.nan, np.nan, 0, why))
            continue
        mean = estimate(part["value"].to_numpy())
        rows.append((*key, mean.mean, mean.half, mean.count, ""))
    return pd.DataFrame(rows, columns=SUMMARY)


def differences(table: pd.DataFrame, against: str, of: str = "strategy") -> pd.DataFrame:
    """The differences of all strategies from `against`, with the same method and seed; columns DIFFERENCE; no costs.

    With `of` = "method": the differences of all methods from the method `against`, with the same strategy and seed.
    `p` is the p value of a paired t test over seeds; `p_holm` is corrected for the number of comparisons. ValueError if
    the study has no such strategy or method.
    """
    require_columns(table, "the long table of a study", COLUMNS)
    if against not in set(table[of]):
        known = ", ".join(table[of].unique())
        raise ValueError(f"the study has no {of} {against!r} to compare with; it has {known}")
    scored = table[(table["undefined"] == "") & (table["view"] != COSTS)]
    fixed = "method" if of == "strategy" else "strategy"
    rows = []
    for (same, view, name), part in scored.groupby([fixed, "view", "measure"], sort=False):
        by_seed = part.pivot(index="seed", columns=of, values="value")
        if against not in by_seed:
            continue
        compared = []
        for other in [one for one in part[of].unique() if one != against]:
            pairs = by_seed[[other, against]].dropna()
            if len(pairs):
                compared.append((other, paired(pairs[other].tolist(), pairs[against].tolist())))
        adjusted = holm([difference.p for _, difference in compared])
        for (other, d), p in zip(compared, adjusted, strict=True):
            row = {of: other, fixed: same, "view": view, "measure": name, "seeds": d.count}
            rows.append({**row, "mean": d.mean, "half": d.half, "p": d.p, "p_holm": p})
    return pd.DataFrame(rows, columns=DIFFERENCE)


def skill_ranks(table: pd.DataFrame, method: str) -> Ranks:
    """Ranks of the strategies by the scores after the last round; a block is one skill with one seed."""
    require_columns(table, "the long table of a study", COLUMNS)
    last = table[(table["view"] == LAST) & (table["method"] == method)]
    blocks = last.pivot(index=["measure", "seed"], columns="strategy", values="value").dropna(axis=0)
    names = [name for name in last["strategy"].unique() if name in blocks]
    return ranked(names, blocks[names].to_numpy())


def format_mean(row: pd.Series | dict[Any, Any], sign: bool = False) -> str:
    """A mean ± half-width as text, in points (hundredths) where the value is a share."""
    if row.get("undefined"):
        return "undefined"
    scale = 1 if row["view"] == COSTS or row["measure"] in RATES else 100
    style = "+.1f" if sign else ".1f"
    mean = f"{scale * row['mean']:{style}}"
    return mean if np.isnan(row["half"]) else f"{mean} ± {scale * row['half']:.1f}"


def wide(summaries: pd.DataFrame, view: str, measures: list[str] | None = None, sign: bool = False) -> pd.DataFrame:
    """One view of a summary for readers: one row per strategy and method, one column per measure."""
    part = summaries[summaries["view"] == view]
    names = measures or list(dict.fromkeys(part["measure"]))
    rows = []
    for (strategy, method), cells in part.groupby(["strategy", "method"], sort=False):
        known = {row["measure"]: row for row in cells.to_dict("records")}
        texts = {name: format_mean(known[name], sign) if name in known else "" for name in names}
        rows.append({"strategy": strategy, "method": method, **texts})
    return pd.DataFrame(rows, columns=["strategy", "method", *names])


def cost_table(summaries: pd.DataFrame) -> pd.DataFrame:
    """Mean costs of each strategy and method: FLOPs, seconds, samples, bytes, parameters, memory."""
    part = summaries[summaries["view"] == COSTS].pivot(index=["strategy", "method"], columns="measure", values="mean")
    order = summaries[["strategy", "method"]].drop_duplicates()
    part = part.reindex(pd.MultiIndex.from_frame(order)).dropna(how="all").reset_index()
    columns = pd.DataFrame({"strategy": part["strategy"], "method": part["method"]})
    for name, label, scale, style in (
        ("selection_flops", "selection, TFLOP", 1e12, ".2f"),
        ("training_flops", "training, TFLOP", 1e12, ".2f"),
        ("total_flops", "both, TFLOP", 1e12, ".2f"),
        ("evaluation_flops", "evaluation, TFLOP", 1e12, ".2f"),
        ("selection_seconds", "selection, s", 1, ".0f"),
        ("training_seconds", "training, s", 1, ".0f"),
        ("evaluation_seconds", "evaluation, s", 1, ".0f"),
        ("samples_probed", "samples probed", 1, ",.0f"),
        ("stored_samples", "samples stored", 1, ",.0f"),
        ("state_bytes", "method's state, MB", 1e6, ".1f"),
        ("added_parameters", "added parameters", 1, ",.0f"),
        ("peak_memory_gb", "peak memory, GB", 1, ".2f"),
    ):
        if name in part:
            columns[label] = [f"{value / scale:{style}}" for value in part[name]]
        if name == "total_flops" and name in part:
            budgets = part["total_flops"] / part["training_flops"]
            columns["as much as"] = [f"random@{budget:.2f}" if budget > 1 else "" for budget in budgets]
    return columns
