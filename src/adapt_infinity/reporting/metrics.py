"""Names and values of a round's metrics, with names that MLflow allows; MLflow itself is not imported."""

import math
import re
from collections.abc import Mapping
from typing import TypeVar

import pandas as pd

from adapt_infinity.benchmarks.measures import as_matrix
from adapt_infinity.intake.overlap import KINDS
from adapt_infinity.reporting.table import RoundSummary, expert_table

Value = TypeVar("Value")
NAME_LENGTH = 250  # characters that MLflow allows


def round_metrics(summary: RoundSummary) -> dict[str, float]:
    """The metrics of a round, by name. Values that are undefined or were not measured are left out."""
    scores, skills = as_matrix(summary.score_matrix[summary.score_matrix["round"] <= summary.round], "skill")
    metrics = {
        f"skill/{skill}": float(score) for skill, score in zip(skills, scores[-1], strict=True) if math.isfinite(score)
    }
    for row in summary.measures[summary.measures["undefined"] == ""].to_dict("records"):
        metrics[_measure("measure", row["view"], row["measure"])] = row["value"]
    metrics |= {f"cost/seconds/{stage}": seconds for stage, seconds in summary.seconds.items()}
    if summary.peak_memory_gb is not None:
        metrics["cost/peak_memory_gb"] = summary.peak_memory_gb
    if summary.subset is not None:
        metrics["cost/samples_probed"] = float(summary.samples_probed)
        metrics["pool/before"] = float(summary.pool_before)
        metrics["pool/after"] = float(summary.pool_after)
        metrics["subset/size"] = float(summary.chosen)
    if summary.arrived:
        metrics["intake/arrived"] = float(summary.arrived)
        metrics["intake/rejected"] = float(sum(summary.rejects.values()))
        metrics["intake/repaired"] = float(sum(summary.repairs.values()))
        metrics |= {
            f"intake/overlap/{scope}/{kind.replace(' ', '_')}": float(summary.overlaps.get(f"{scope}: {kind}", 0))
            for scope, kinds in KINDS.items()
            for kind in kinds
        }
    metrics |= {f"routing/{name}": value for name, value in summary.routing.items()}
    won = expert_table(summary)
    for expert, clusters in zip(won["expert"], won["clusters"], strict=True):
        metrics[f"expert_clusters/{expert}"] = float(clusters)
    return metrics


def undefined_tags(measures: pd.DataFrame) -> dict[str, str]:
    """The reasons why measures have no metric: undefined/<view>/<measure> → reason."""
    missing = measures[measures["undefined"] != ""].to_dict("records")
    return {_measure("undefined", row["view"], row["measure"]): row["undefined"] for row in missing}


def fit_name(name: str) -> str:
    """`name` with all characters replaced that MLflow does not allow; it allows letters, digits and "_-. /"."""
    parts = re.sub(r"[^\w./ \-]", "_", name).split("/")
    return "/".join(part if part.strip(". ") else "_" for part in parts)[:NAME_LENGTH]


def fit_names(values: Mapping[str, Value]) -> dict[str, Value]:
    """The same values with names that MLflow allows; ValueError if two names become equal."""
    fitted: dict[str, Value] = {}
    originals: dict[str, str] = {}
    for name, value in values.items():
        fit = fit_name(name)
        if fit in fitted:
            raise ValueError(f"{originals[fit]!r} and {name!r} are both {fit!r} in MLflow; rename one of them")
        fitted[fit], originals[fit] = value, name
    return fitted


def _measure(kind: str, view: str, measure: str) -> str:
    return f"{kind}/{view}/{measure}".replace(" ", "_")
