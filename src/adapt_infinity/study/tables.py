"""Comparisons out of the long table: means over seeds with their intervals, and differences from one strategy."""

import numpy as np
import pandas as pd

from adapt_infinity.study.results import COSTS, LAST, SCORES
from adapt_infinity.study.statistics import Ranks, estimate, holm, paired, ranked

RATES = ("relative gain", "forgetting rate")  # in percent as they are
SUMMARY = ["strategy", "method", "view", "measure", "mean", "half", "seeds", "undefined"]
DIFFERENCE = ["strategy", "method", "view", "measure", "mean", "half", "seeds", "p", "p_holm"]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and half-width of the 95 % t interval over seeds (SUMMARY). A number that a seed lacks is undefined: why."""
    rows = []
    for key, part in table.groupby(["strategy", "method", "view", "measure"], sort=False):
        why = "; ".join(dict.fromkeys(reason for reason in part["undefined"] if reason))
        if why:
            rows.append((*key, np.nan, np.nan, 0, why))
            continue
        found = estimate(part["value"].to_numpy())
        rows.append((*key, found.mean, found.half, found.count, ""))
    return pd.DataFrame(rows, columns=SUMMARY)


def differences(table: pd.DataFrame, against: str, of: str = "strategy") -> pd.DataFrame:
    """Every strategy less `against`, by the same method and seed (DIFFERENCE); no costs. With `of` = method, every
    method less `against`, under the same strategy and seed.

    p is that of a paired t test over seeds; p_holm is adjusted for the number of those compared. `ValueError` when the
    study has no such strategy or method.
    """
    if against not in set(table[of]):
        there = ", ".join(table[of].unique())
        raise ValueError(f"there is no {of} {against!r} to compare with; the study has {there}")
    scored = table[(table["undefined"] == "") & (table["view"] != COSTS)]
    held = "method" if of == "strategy" else "strategy"
    rows = []
    for (same, view, name), part in scored.groupby([held, "view", "measure"], sort=False):
        by_seed = part.pivot(index="seed", columns=of, values="value")
        if against not in by_seed:
            continue
        found = []
        for other in [one for one in part[of].unique() if one != against]:
            pairs = by_seed[[other, against]].dropna()
            if len(pairs):
                found.append((other, paired(pairs[other].tolist(), pairs[against].tolist())))
        adjusted = holm([difference.p for _, difference in found])
        for (other, d), p in zip(found, adjusted, strict=True):
            known = {of: other, held: same, "view": view, "measure": name, "seeds": d.count}
            rows.append({**known, "mean": d.mean, "half": d.half, "p": d.p, "p_holm": p})
    return pd.DataFrame(rows, columns=DIFFERENCE)


def skill_ranks(table: pd.DataFrame, method: str) -> Ranks:
    """Strategies ranked over blocks of a skill and a seed, by the last score."""
    last = table[(table["view"] == LAST) & (table["method"] == method)]
    blocks = last.pivot(index=["measure", "seed"], columns="strategy", values="value").dropna(axis=0)
    names = [name for name in last["strategy"].unique() if name in blocks]
    return ranked(names, blocks[names].to_numpy())


def shown(row: pd.Series | dict, sign: bool = False) -> str:
    """A mean ± half-width, in points where it is a share."""
    if row.get("undefined"):
        return "undefined"
    scale = 1 if row["view"] == COSTS or row["measure"] in RATES else 100
    form = "+.1f" if sign else ".1f"
    mean = f"{scale * row['mean']:{form}}"
    return mean if np.isnan(row["half"]) else f"{mean} ± {scale * row['half']:.1f}"


def wide(found: pd.DataFrame, view: str, measures: list[str] | None = None, sign: bool = False) -> pd.DataFrame:
    """One view as a table for readers: a row a strategy and method, a column a measure."""
    part = found[found["view"] == view]
    names = measures or list(dict.fromkeys(part["measure"]))
    rows = []
    for (strategy, method), cells in part.groupby(["strategy", "method"], sort=False):
        known = {row["measure"]: row for row in cells.to_dict("records")}
        texts = {name: shown(known[name], sign) if name in known else "" for name in names}
        rows.append({"strategy": strategy, "method": method, **texts})
    return pd.DataFrame(rows, columns=["strategy", "method", *names])


def cost_table(found: pd.DataFrame) -> pd.DataFrame:
    """What each strategy and method costs: floating-point operations, seconds, samples, bytes, parameters; means."""
    part = found[found["view"] == COSTS].pivot(index=["strategy", "method"], columns="measure", values="mean")
    order = found[["strategy", "method"]].drop_duplicates()
    part = part.reindex(pd.MultiIndex.from_frame(order)).dropna(how="all").reset_index()
    told = pd.DataFrame({"strategy": part["strategy"], "method": part["method"]})
    for name, label, scale, form in (
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
            told[label] = [f"{value / scale:{form}}" for value in part[name]]
        if name == "total_flops" and name in part:
            budgets = part["total_flops"] / part["training_flops"]
            told["as much as"] = [f"random@{budget:.2f}" if budget > 1 else "" for budget in budgets]
    return told


__all__ = ["LAST", "SCORES", "cost_table", "differences", "shown", "skill_ranks", "summary", "wide"]
