"""The scores and costs of all cells as one long table: one row per cell and measure, with value and formula."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from adapt_infinity.benchmarks.measures import as_matrix, measure
from adapt_infinity.data.tables import require_columns
from adapt_infinity.study.costs import Cost, total
from adapt_infinity.study.grid import Cell

COLUMNS = ["strategy", "method", "seed", "view", "measure", "value", "undefined", "formula"]
MATRIX = ["round", "dataset", "skill", "items", "score"]  # columns of a score matrix
INDEPENDENT = "independent"  # the strategy whose cells train on one dataset only, a reference for the measures
SCORES, COSTS, LAST = "scores", "cost", "last score"  # further values of `view`, beside those of `measures`


@dataclass(frozen=True)
class Plan:
    """What the measures need to know about the stream."""

    datasets: Mapping[str, int]  # dataset → the round in which it arrives
    skills: Mapping[str, int]  # skill → the round that first trains it
    rare: Sequence[str] = ()
    last: int = 1


@dataclass(frozen=True)
class Outcome:
    """The result of a cell: its score matrix, and its costs, one per round."""

    cell: Cell
    score_matrix: pd.DataFrame
    costs: Sequence[Cost] = field(default_factory=list)


def zero_shot(cell: Cell, genesis: pd.DataFrame, last: int) -> Outcome:
    """The outcome without training: the scores of round 0, repeated for all rounds up to `last`."""
    rows = [genesis[genesis["round"] == 0].assign(round=round) for round in range(last + 1)]
    return Outcome(cell, pd.concat(rows, ignore_index=True))


def long_table(outcomes: Sequence[Outcome], plan: Plan) -> pd.DataFrame:
    """All numbers of all cells, with the columns COLUMNS. Scores are in [0, 1], rates in percent.

    ValueError if a score matrix lacks a column.
    """
    for outcome in outcomes:
        require_columns(outcome.score_matrix, f"score_matrix of {outcome.cell.strategy}", MATRIX)
    upper = {
        (outcome.cell.method, outcome.cell.seed): own_scores(outcome.score_matrix, plan)
        for outcome in outcomes
        if outcome.cell.strategy == INDEPENDENT
    }
    rows = []
    for outcome in outcomes:
        cell = {"strategy": outcome.cell.strategy, "method": outcome.cell.method, "seed": outcome.cell.seed}
        datasets, skills = upper.get((outcome.cell.method, outcome.cell.seed), ({}, {}))
        measures = measure(outcome.score_matrix, plan.datasets, plan.skills, datasets, skills)
        rows += [{**cell, **row} for row in measures[COLUMNS[3:]].to_dict("records")]
        rows += [{**cell, **row} for row in _last_scores(outcome.score_matrix, plan)]
        if outcome.costs:
            for name, value in total(outcome.costs).items():
                rows.append({**cell, "view": COSTS, "measure": name, "value": value, "undefined": "", "formula": ""})
    return pd.DataFrame(rows, columns=COLUMNS).astype({"value": float})


def own_scores(score_matrix: pd.DataFrame, plan: Plan) -> tuple[dict[str, float], dict[str, float]]:
    """The score of each dataset and of each skill in the round that first trains it; used for independent runs."""
    scores = []
    for column, first_rounds in (("dataset", plan.datasets), ("skill", plan.skills)):
        matrix, names = as_matrix(score_matrix, column)
        rounds = {name: start for name, start in first_rounds.items() if start < len(matrix) and name in names}
        scores.append({name: float(matrix[start, names.index(name)]) for name, start in rounds.items()})
    return scores[0], scores[1]


def curves(outcomes: Sequence[Outcome], plan: Plan) -> pd.DataFrame:
    """Mean score of the skills that have arrived, after each round; columns strategy, method, seed, round, value."""
    rows = []
    for outcome in outcomes:
        matrix, names = as_matrix(outcome.score_matrix, "skill")
        for round in range(1, len(matrix)):
            arrived = [names.index(name) for name, start in plan.skills.items() if start <= round and name in names]
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
