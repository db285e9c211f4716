"""Cells' score matrices and costs as one long table: a row a cell and number, with its formula, or why it has none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from adapt_infinity.benchmarks.measures import as_matrix, measure
from adapt_infinity.study.costs import Cost, total
from adapt_infinity.study.grid import Cell

COLUMNS = ["strategy", "method", "seed", "view", "measure", "value", "undefined", "formula"]
INDEPENDENT = "independent"  # whose cells say what a dataset alone is good for
SCORES, COSTS, LAST = "scores", "cost", "last score"  # views beside those of `measures`


@dataclass(frozen=True)
class Plan:
    """What of the stream the measures need."""

    datasets: Mapping[str, int]  # arriving dataset → its round
    skills: Mapping[str, int]  # skill → the round that first trains it
    rare: Sequence[str] = ()
    last: int = 1


@dataclass(frozen=True)
class Outcome:
    """What a cell has come to."""

    cell: Cell
    score_matrix: pd.DataFrame
    costs: Sequence[Cost] = field(default_factory=list)


def zero_shot(cell: Cell, genesis: pd.DataFrame, last: int) -> Outcome:
    """The model that is never trained: every row of R is row 0."""
    rows = [genesis[genesis["round"] == 0].assign(round=round) for round in range(last + 1)]
    return Outcome(cell, pd.concat(rows, ignore_index=True))


def long_table(outcomes: Sequence[Outcome], plan: Plan) -> pd.DataFrame:
    """Every number of every cell (COLUMNS). Scores are in 0..1, rates in percent."""
    upper = {
        (outcome.cell.method, outcome.cell.seed): own_scores(outcome.score_matrix, plan)
        for outcome in outcomes
        if outcome.cell.strategy == INDEPENDENT
    }
    rows = []
    for outcome in outcomes:
        known = {"strategy": outcome.cell.strategy, "method": outcome.cell.method, "seed": outcome.cell.seed}
        datasets, skills = upper.get((outcome.cell.method, outcome.cell.seed), ({}, {}))
        found = measure(outcome.score_matrix, plan.datasets, plan.skills, datasets, skills)
        rows += [{**known, **row} for row in found[COLUMNS[3:]].to_dict("records")]
        rows += [{**known, **row} for row in _last_scores(outcome.score_matrix, plan)]
        if outcome.costs:
            for name, value in total(outcome.costs).items():
                rows.append({**known, "view": COSTS, "measure": name, "value": value, "undefined": "", "formula": ""})
    return pd.DataFrame(rows, columns=COLUMNS).astype({"value": float})


def own_scores(score_matrix: pd.DataFrame, plan: Plan) -> tuple[dict[str, float], dict[str, float]]:
    """What each dataset and skill came to in the round that trains it: of independent runs, the upper reference."""
    found = []
    for column, own in (("dataset", plan.datasets), ("skill", plan.skills)):
        matrix, names = as_matrix(score_matrix, column)
        rounds = {name: start for name, start in own.items() if start < len(matrix) and name in names}
        found.append({name: float(matrix[start, names.index(name)]) for name, start in rounds.items()})
    return found[0], found[1]


def curves(outcomes: Sequence[Outcome], plan: Plan) -> pd.DataFrame:
    """The mean score, after every round, of the skills that had arrived: strategy, method, seed, round, value."""
    rows = []
    for outcome in outcomes:
        matrix, names = as_matrix(outcome.score_matrix, "skill")
        for round in range(1, len(matrix)):
            arrived = [names.index(name) for name, own in plan.skills.items() if own <= round and name in names]
            value = float(np.mean(matrix[round, arrived])) if arrived else float("nan")
            cell = outcome.cell
            rows.append((cell.strategy, cell.method, cell.seed, round, value))
    return pd.DataFrame(rows, columns=["strategy", "method", "seed", "round", "value"])


def _last_scores(score_matrix: pd.DataFrame, plan: Plan) -> list[dict[str, object]]:
    last = score_matrix[score_matrix["round"] == score_matrix["round"].max()].set_index("skill")["score"]
    stream = [skill for skill in last.index if plan.skills.get(skill, plan.last + 1) <= plan.last]
    groups = {
        "all skills": list(last.index),
        "stream skills": stream,
        "rare skills": [skill for skill in stream if skill in plan.rare],
        "base skills": [skill for skill in last.index if skill not in plan.skills],
    }
    rows: list[dict[str, object]] = []
    for name, skills in groups.items():
        value = float(last[skills].mean()) if skills else None
        missing = "" if skills else "the stream has no such skill"
        formula = "mean_s R[T,s]"
        rows.append({"view": SCORES, "measure": name, "value": value, "undefined": missing, "formula": formula})
    for skill, score in last.items():
        rows.append({"view": LAST, "measure": skill, "value": score, "undefined": "", "formula": "R[T,s]"})
    return rows
