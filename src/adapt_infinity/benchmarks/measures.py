"""Measures of continual learning, computed from the score matrix R (docs/method.md, section 9).

R[i, j] is the score on column j after round i; row 0 is the base model without training. There are two matrices: one
per dataset (the columns are the datasets that arrive) and one per skill. own(j) is the first round whose arrival trains
column j. With one dataset per round, own(j) = j and the formulas are those of the literature (GEM, Lopez-Paz & Ranzato
2017; RWalk, Chaudhry et al. 2018; relative gain and forgetting rate from Adapt-∞, arXiv:2410.10636). Skills that no
arrival trains are abilities of the base model: they are reported separately, with own(s) = 0.

T is the last round of the table, so a table that is cut at `round <= t` gives the measures as they were after round t.
Columns that arrive later than T are left out. A measure that cannot be computed has a reason instead of a value.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from adapt_infinity.data.tables import require_columns
from adapt_infinity.pool.pool import Pool

COLUMNS = ["view", "measure", "value", "undefined", "formula", "normaliser"]


class UndefinedError(Exception):
    """The reason why a measure has no value."""


def own_rounds(arrivals: pd.DataFrame, column: str) -> dict[str, int]:
    """The first round in which each value of `column` (`source` or `skill`) arrived, in the order of arrival.

    `arrivals` has the columns round and `column`, and one row per sample that ever arrived, pruned or not, so that a
    skill whose first samples have been pruned keeps its own round. `ValueError` names a missing column.
    """
    require_columns(arrivals, "arrivals", ["round", column])
    first = arrivals.groupby(column, sort=False)["round"].min().sort_values(kind="stable")
    return {str(name): int(start) for name, start in first.items()}


def first_rounds_of_skills(pool: Pool, planned_skills: Mapping[str, int]) -> dict[str, int]:
    """The first round that trains each skill: as it happened or, for skills that are still to arrive, as planned."""
    return {**planned_skills, **own_rounds(pool.arrived, "skill")}


def measure_round(score_matrix: pd.DataFrame, pool: Pool, planned_skills: dict[str, int]) -> pd.DataFrame:
    """Every measure after this round; see `measure`. Own rounds are those of all samples that ever arrived."""
    return measure(score_matrix, own_rounds(pool.arrived, "source"), first_rounds_of_skills(pool, planned_skills))


def as_matrix(score_matrix: pd.DataFrame, column: str) -> tuple[Float[np.ndarray, "rounds columns"], list[str]]:
    """R with one row per round from 0 to the last one, and the names of its columns in order of first appearance.

    `score_matrix` is the long table of `answering.grade_round`; `column` is `dataset` or `skill`. A cell is the mean
    over all its graded items: the scores weighted by `items`. A cell is NaN when any benchmark that belongs to it was
    not graded in that round, because means over different items cannot be compared. `ValueError` when the table is
    empty, lacks a column, grades a benchmark twice, or has a score outside 0..1.
    """
    _check(score_matrix)
    other = {"dataset": "skill", "skill": "dataset"}[column]
    rounds = range(int(score_matrix["round"].max()) + 1)
    names = [str(name) for name in dict.fromkeys(score_matrix[column])]
    matrix = np.full((len(rounds), len(names)), np.nan)
    for j, name in enumerate(names):
        part = score_matrix[score_matrix[column] == name]
        scores = part.pivot(index="round", columns=other, values="score").reindex(rounds).to_numpy(float)
        items = part.pivot(index="round", columns=other, values="items").reindex(rounds).to_numpy(float)
        matrix[:, j] = (scores * items).sum(axis=1) / items.sum(axis=1)
    return matrix, names


def measure(
    score_matrix: pd.DataFrame,
    own_datasets: Mapping[str, int],
    own_skills: Mapping[str, int],
    upper_datasets: Mapping[str, float] | None = None,
    upper_skills: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """One row per measure and view, after the last round of `score_matrix`.

    `own_*` is the round (from 1) that first trains a column; `upper_*` is the score of the column's independent run,
    which is trained on that dataset alone. Columns: view (dataset, skill or untrained skill), measure, value (float, or
    None), undefined (the reason, or ""), formula, normaliser (the number of terms of the mean; 0 if undefined). Scores
    and their differences are shares in 0..1, rates are percentages. `ValueError` for an own round below 1, and as in
    `as_matrix`.
    """
    for name, start in {**own_datasets, **own_skills}.items():
        if start < 1:
            raise ValueError(f"own round of {name!r} must be at least 1 (round 0 is the base model), got {start}")
    by_dataset, datasets = as_matrix(score_matrix, "dataset")
    by_skill, skills = as_matrix(score_matrix, "skill")
    untrained = {skill: 0 for skill in skills if skill not in own_skills}
    views = [
        _view("dataset", by_dataset, datasets, own_datasets, upper_datasets or {}),
        _view("skill", by_skill, skills, own_skills, upper_skills or {}),
    ]
    if untrained:
        views.append(_view("untrained skill", by_skill, skills, untrained, upper_skills or {}))
    rows = [_row(view, name) for view in views for name in FORMULAS]
    table = pd.DataFrame([row[:2] + row[3:] for row in rows], columns=[c for c in COLUMNS if c != "value"])
    table.insert(2, "value", pd.Series([row[2] for row in rows], dtype=object))
    return table


@dataclass(frozen=True, kw_only=True)
class View:
    """One of the matrices R, restricted to the columns that have arrived."""

    name: str
    matrix: Float[np.ndarray, "rounds columns"]
    columns: list[str]
    own: Int[np.ndarray, " columns"]
    start: Int[np.ndarray, " columns"]  # the first round whose score can be the best one so far
    upper: Mapping[str, float]

    @property
    def last(self) -> int:
        """T, the last round."""
        return len(self.matrix) - 1

    def cell(self, i: int, j: int) -> float:
        """R[i, j]; `UndefinedError` if it was not graded."""
        if np.isnan(self.matrix[i, j]):
            raise UndefinedError(f"R[{i}, {self.columns[j]}] was not graded")
        return float(self.matrix[i, j])

    def best(self, j: int) -> float:
        """The highest score on column j before the last round."""
        return max(self.cell(i, j) for i in range(int(self.start[j]), self.last))

    def arrived(self) -> list[int]:
        """The numbers of all columns; `UndefinedError` if there is none."""
        if not self.columns:
            raise UndefinedError("no round has been run" if self.last == 0 else "nothing has arrived yet")
        return list(range(len(self.columns)))

    def earlier(self) -> list[int]:
        """The numbers of the columns that were trained before the last round; `UndefinedError` if there is none."""
        columns = [j for j, own in enumerate(self.own) if own < self.last]
        if not columns:
            if self.name == "untrained skill":
                raise UndefinedError("needs one round")
            raise UndefinedError("needs two rounds" if self.last < 2 else "nothing arrived before the last round")
        return columns


def last_average(view: View) -> list[float]:
    """MFN: the score of each column after the last round."""
    return [view.cell(view.last, j) for j in view.arrived()]


def fine_tune_average(view: View) -> list[float]:
    """MFT: the score of each column right after it was first trained."""
    return [view.cell(int(view.own[j]), j) for j in view.arrived()]


def average_over_stream(view: View) -> list[float]:
    """MAA: one term per round, the mean score over the columns that had arrived by then."""
    columns = view.arrived()
    by_round = [(i, [j for j in columns if view.own[j] <= i]) for i in range(min(1, view.last), view.last + 1)]
    return [float(np.mean([view.cell(i, j) for j in arrived])) for i, arrived in by_round if arrived]


def backward_transfer(view: View) -> list[float]:
    """BWT: what later rounds did to earlier columns; negative means loss."""
    return [view.cell(view.last, j) - view.cell(int(view.own[j]), j) for j in view.earlier()]


def forgetting(view: View) -> list[float]:
    """How far each column has fallen from its best."""
    return [view.best(j) - view.cell(view.last, j) for j in view.earlier()]


def forward_transfer(view: View) -> list[float]:
    """FWT: the change of each column's score through the rounds before its own round."""
    if view.name == "untrained skill":
        raise UndefinedError("no arrival trains these skills")
    columns = [j for j, own in enumerate(view.own) if own >= 2]
    if not columns:
        raise UndefinedError("needs two rounds" if view.last < 2 else "nothing new arrived after the first round")
    return [view.cell(int(view.own[j]) - 1, j) - view.cell(0, j) for j in columns]


def relative_gain(view: View) -> list[float]:
    """The score of each column after the last round, in percent of the score of its independent run."""
    columns = view.arrived()
    if not view.upper:
        raise UndefinedError("no independent runs to compare with")
    for j in columns:
        if view.columns[j] not in view.upper:
            raise UndefinedError(f"no independent run of {view.columns[j]}")
        if not view.upper[view.columns[j]] > 0:
            raise UndefinedError(f"the independent run of {view.columns[j]} scores {view.upper[view.columns[j]]}")
    return [100 * view.cell(view.last, j) / view.upper[view.columns[j]] for j in columns]


def forgetting_rate(view: View) -> list[float]:
    """The loss of each column since its best earlier score, in percent of that score."""
    columns = view.earlier()
    for j in columns:
        if view.best(j) == 0:
            raise UndefinedError(f"the best earlier score of {view.columns[j]} is 0")
    return [100 * (view.best(j) - view.cell(view.last, j)) / view.best(j) for j in columns]


# Name: (function that gives the terms whose mean is the measure, formula as printed). n is the number of terms; F is
# the first round whose score may be the best one: 1 in the view per dataset, own(j) per skill.
FORMULAS: dict[str, tuple[Callable[[View], list[float]], str]] = {
    "MFN": (last_average, "1/n sum_j R[T,j]"),
    "MFT": (fine_tune_average, "1/n sum_j R[own(j),j]"),
    "MAA": (average_over_stream, "1/n sum_i mean_{own(j)<=i} R[i,j]"),
    "BWT": (backward_transfer, "1/n sum_{own(j)<T} (R[T,j] - R[own(j),j])"),
    "forgetting": (forgetting, "1/n sum_{own(j)<T} (max_{F<=i<T} R[i,j] - R[T,j])"),
    "FWT": (forward_transfer, "1/n sum_{own(j)>=2} (R[own(j)-1,j] - R[0,j])"),
    "relative gain": (relative_gain, "100/n sum_j R[T,j] / upper_j"),
    "forgetting rate": (
        forgetting_rate,
        "100/n sum_{own(j)<T} (best_j - R[T,j]) / best_j, best_j = max_{F<=i<T} R[i,j]",
    ),
}


def _row(view: View, name: str) -> tuple[str, str, float | None, str, str, int]:
    terms_of, formula = FORMULAS[name]
    formula = formula.replace("F<=", "1<=" if view.name == "dataset" else "own(j)<=")
    try:
        terms = terms_of(view)
    except UndefinedError as reason:
        return view.name, name, None, str(reason), formula, 0
    return view.name, name, float(np.mean(terms)), "", formula, len(terms)


def _view(
    name: str,
    matrix: Float[np.ndarray, "rounds all"],
    columns: list[str],
    own: Mapping[str, int],
    upper: Mapping[str, float],
) -> View:
    """The columns of `own` that have arrived, in the order of arrival; a column that was never graded is all NaN."""
    arrived = sorted((column for column in own if own[column] < len(matrix)), key=lambda column: own[column])
    cells = [
        matrix[:, columns.index(column)] if column in columns else np.full(len(matrix), np.nan) for column in arrived
    ]
    starts = np.array([own[column] for column in arrived], dtype=np.int64)
    return View(
        name=name,
        matrix=np.stack(cells, axis=1) if cells else np.empty((len(matrix), 0)),
        columns=arrived,
        own=starts,
        start=np.ones_like(starts) if name == "dataset" else starts,
        upper=upper,
    )


def _check(score_matrix: pd.DataFrame) -> None:
    """`ValueError` unless the table has rows, one per benchmark and round, with scores in 0..1."""
    require_columns(score_matrix, "score_matrix", ["round", "dataset", "skill", "items", "score"])
    if score_matrix.empty:
        raise ValueError("score_matrix is empty: grade the base model first (round 0)")
    key = ["round", "dataset", "skill"]
    twice = score_matrix[score_matrix.duplicated(key)]
    if len(twice):
        raise ValueError(f"score_matrix grades a benchmark twice: {twice.iloc[0][key].to_dict()}")
    wrong = score_matrix[~score_matrix["score"].between(0, 1) | ~(score_matrix["items"] >= 1)]
    if len(wrong):
        row = wrong.iloc[0][[*key, "score", "items"]].to_dict()
        raise ValueError(f"score_matrix needs 0 <= score <= 1 and items >= 1: {row}")
