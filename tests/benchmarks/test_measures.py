"""Measures: by hand, against a literal transcription of the formulas, and by properties that always hold."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt_infinity.benchmarks.measures import FORMULAS, as_matrix, measure, own_rounds
from tests.conftest import examples


def long_table(rows: list[list[float]], dataset: str = "D{}", skill: str = "s{}") -> pd.DataFrame:
    """A matrix as a long score table: column j is the benchmark of dataset D<j> and skill s<j>, j from 1."""
    return pd.DataFrame(
        [
            {
                "round": i,
                "dataset": dataset.format(j),
                "skill": skill.format(j),
                "grader": "exact",
                "items": 10,
                "score": x,
            }
            for i, row in enumerate(rows)
            for j, x in enumerate(row, start=1)
        ]
    )


def own(n: int, prefix: str) -> dict[str, int]:
    return {f"{prefix}{j}": j for j in range(1, n + 1)}


def value(table: pd.DataFrame, view: str, name: str) -> float | None:
    row = table[(table["view"] == view) & (table["measure"] == name)].iloc[0]
    assert (row["value"] is None) == (row["undefined"] != "")
    return row["value"]


def reason(table: pd.DataFrame, view: str, name: str) -> str:
    return table[(table["view"] == view) & (table["measure"] == name)]["undefined"].iloc[0]


HAND = [[0.1, 0.2, 0.3], [0.8, 0.4, 0.3], [0.6, 0.9, 0.5], [0.7, 0.5, 1.0]]


def test_by_hand() -> None:
    """Three datasets and three rounds; every number below was worked out on paper."""
    table = measure(long_table(HAND), own(3, "D"), own(3, "s"), {"D1": 1.0, "D2": 0.5, "D3": 0.8})
    expected = {
        "MFN": (0.7 + 0.5 + 1.0) / 3,
        "MFT": (0.8 + 0.9 + 1.0) / 3,
        "MAA": (0.8 + 0.75 + 2.2 / 3) / 3,
        "BWT": (-0.1 - 0.4) / 2,
        "forgetting": (0.1 + 0.4) / 2,
        "FWT": (0.2 + 0.2) / 2,
        "relative gain": 100 * (0.7 + 1.0 + 1.25) / 3,
        "forgetting rate": 100 * (0.1 / 0.8 + 0.4 / 0.9) / 2,
    }
    for name, number in expected.items():
        assert value(table, "dataset", name) == pytest.approx(number), name
    normalisers = table[table["view"] == "dataset"].set_index("measure")["normaliser"].to_dict()
    assert normalisers["BWT"] == normalisers["forgetting"] == normalisers["FWT"] == 2
    assert normalisers["MFN"] == normalisers["MAA"] == 3
    assert reason(table, "skill", "relative gain") == "no independent runs to compare with"
    assert table["formula"].str.len().min() > 0


def test_the_best_score_counts_from_round_1_per_dataset_and_from_the_own_round_per_skill() -> None:
    """Column 2 was better before it was trained (0.9 after round 1) than ever after."""
    rows = [[0.0, 0.0, 0.0], [0.5, 0.9, 0.0], [0.5, 0.6, 0.0], [0.5, 0.4, 0.0]]
    table = measure(long_table(rows), own(3, "D"), own(3, "s"))
    assert value(table, "dataset", "forgetting") == pytest.approx((0.0 + 0.5) / 2)
    assert value(table, "skill", "forgetting") == pytest.approx((0.0 + 0.2) / 2)


def test_skills_come_again_and_a_dataset_has_several_skills() -> None:
    """Skill a arrives in round 1, b and c in round 2, a again in round 3; d is a skill of the base model."""
    rows = [[0.1, 0.2, 0.3, 0.9], [0.5, 0.4, 0.3, 0.8], [0.4, 0.6, 0.7, 0.6], [0.6, 0.5, 0.3, 0.7]]
    scores = pd.DataFrame(
        [
            {"round": i, "dataset": d, "skill": s, "grader": "exact", "items": 4, "score": row[k]}
            for i, row in enumerate(rows)
            for k, (d, s) in enumerate([("one", "a"), ("two", "b"), ("two", "c"), ("base", "d")])
        ]
    )
    table = measure(scores, {"one": 1, "two": 2}, {"a": 1, "b": 2, "c": 2})
    assert value(table, "skill", "MFN") == pytest.approx((0.6 + 0.5 + 0.3) / 3)
    assert value(table, "skill", "MFT") == pytest.approx((0.5 + 0.6 + 0.7) / 3)
    assert value(table, "skill", "MAA") == pytest.approx((0.5 + 1.7 / 3 + 1.4 / 3) / 3)
    assert value(table, "skill", "BWT") == pytest.approx((0.1 - 0.1 - 0.4) / 3)
    assert value(table, "skill", "forgetting") == pytest.approx((-0.1 + 0.1 + 0.4) / 3)
    assert value(table, "skill", "FWT") == pytest.approx((0.2 + 0.0) / 2)
    assert value(table, "dataset", "MFN") == pytest.approx((0.6 + 0.4) / 2)  # the dataset "base" never arrives
    assert value(table, "untrained skill", "MFN") == pytest.approx(0.7)
    assert value(table, "untrained skill", "BWT") == pytest.approx(-0.2)
    assert value(table, "untrained skill", "forgetting") == pytest.approx(0.2)
    assert reason(table, "untrained skill", "FWT") == "no arrival trains these skills"


def test_a_cell_is_the_mean_over_its_items() -> None:
    scores = pd.DataFrame(
        {
            "round": 0,
            "dataset": "one",
            "skill": ["a", "b"],
            "grader": "exact",
            "items": [1, 3],
            "score": [1.0, 0.0],
        }
    )
    matrix, names = as_matrix(scores, "dataset")
    assert names == ["one"]
    assert matrix.tolist() == [[0.25]]
    assert as_matrix(scores, "skill")[0].tolist() == [[1.0, 0.0]]


def literally(matrix: np.ndarray) -> Mapping[str, float]:
    """The formulas of docs/method.md, section 9, transcribed literally; indices count from 1."""
    last = matrix.shape[1]
    js = range(1, last + 1)

    def r(i: int, j: int) -> float:
        return float(matrix[i, j - 1])

    return {
        "MFN": sum(r(last, j) for j in js) / last,
        "MFT": sum(r(j, j) for j in js) / last,
        "MAA": sum(sum(r(i, j) for j in range(1, i + 1)) / i for i in js) / last,
        "BWT": sum(r(last, j) - r(j, j) for j in range(1, last)) / (last - 1),
        "forgetting": sum(max(r(i, j) for i in range(1, last)) - r(last, j) for j in range(1, last)) / (last - 1),
        "FWT": sum(r(j - 1, j) - r(0, j) for j in range(2, last + 1)) / (last - 1),
    }


@examples(25)
@given(n=st.integers(2, 5), seed=st.integers(0, 2**32 - 1))
def test_the_view_per_dataset_follows_the_formulas_literally(n: int, seed: int) -> None:
    """The order of the table's rows, and so of the columns, does not matter."""
    matrix = np.random.default_rng(seed).uniform(0.1, 1, (n + 1, n))
    shuffled = long_table(matrix.tolist()).sample(frac=1, random_state=seed % 1000)
    table = measure(shuffled, own(n, "D"), own(n, "s"))
    for name, number in literally(matrix).items():
        assert value(table, "dataset", name) == pytest.approx(number), name
    straight = measure(long_table(matrix.tolist()), dict(reversed(own(n, "D").items())), own(n, "s"))
    for name in FORMULAS:
        assert value(straight, "skill", name) == pytest.approx(value(table, "skill", name))


@examples(15)
@given(n=st.integers(2, 4), x=st.floats(0.01, 1))
def test_a_constant_matrix_forgets_nothing(n: int, x: float) -> None:
    upper = dict.fromkeys(own(n, "s"), x)
    table = measure(long_table([[x] * n] * (n + 1)), own(n, "D"), own(n, "s"), upper_skills=upper)
    for view in ("dataset", "skill"):
        for name in ("BWT", "forgetting", "FWT", "forgetting rate"):
            assert value(table, view, name) == 0
        for name in ("MFN", "MFT", "MAA"):
            assert value(table, view, name) == pytest.approx(x)
    assert value(table, "skill", "relative gain") == pytest.approx(100)


def test_one_round_has_nothing_to_forget() -> None:
    table = measure(long_table([[0.1], [0.5]]), {"D1": 1}, {"s1": 1})
    for name in ("BWT", "forgetting", "FWT", "forgetting rate"):
        assert reason(table, "dataset", name) == "needs two rounds"
    assert value(table, "dataset", "MFN") == 0.5


def test_round_0_alone() -> None:
    """At round 0 nothing has arrived; skills of the base model have a score and no history."""
    table = measure(long_table([[0.1, 0.9]]), {"D1": 1}, {"s1": 1})
    assert reason(table, "skill", "MFN") == "no round has been run"
    assert value(table, "untrained skill", "MFN") == 0.9
    assert value(table, "untrained skill", "MAA") == 0.9
    assert reason(table, "untrained skill", "BWT") == "needs one round"


def test_a_table_cut_at_round_t_gives_the_measures_after_round_t() -> None:
    whole = long_table(HAND)
    so_far = measure(whole[whole["round"] <= 2], own(3, "D"), own(3, "s"))
    assert value(so_far, "dataset", "MFN") == pytest.approx((0.6 + 0.9) / 2)
    assert value(so_far, "dataset", "BWT") == pytest.approx(-0.2)
    assert value(so_far, "dataset", "FWT") == pytest.approx(0.2)


def test_a_missing_cell_is_named_in_the_reason() -> None:
    table = long_table(HAND)
    table = table[~((table["round"] == 2) & (table["skill"] == "s1"))]
    measured = measure(table, own(3, "D"), own(3, "s"))
    assert reason(measured, "skill", "forgetting") == "R[2, s1] was not graded"
    assert reason(measured, "dataset", "MAA") == "R[2, D1] was not graded"
    assert value(measured, "dataset", "MFN") == pytest.approx(2.2 / 3)
    never = measure(long_table(HAND), {**own(3, "D"), "extra": 3}, own(3, "s"))
    assert reason(never, "dataset", "MFN") == "R[3, extra] was not graded"


def test_a_partly_graded_dataset_is_a_missing_cell() -> None:
    """A dataset of which one of two skills was graded would be a mean over different items."""
    table = pd.concat([long_table(HAND), long_table(HAND, skill="t{}")])
    table = table[~((table["round"] == 3) & (table["skill"] == "t2"))]
    assert reason(measure(table, own(3, "D"), own(3, "s")), "dataset", "MFN") == "R[3, D2] was not graded"


def test_a_division_by_zero_is_undefined() -> None:
    scores = long_table([[0.0, 0.0], [0.0, 0.2], [0.0, 0.5]])
    table = measure(scores, own(2, "D"), own(2, "s"), {"D1": 0.0, "D2": 1.0}, {"s1": 0.5})
    assert reason(table, "dataset", "forgetting rate") == "the best earlier score of D1 is 0"
    assert reason(table, "dataset", "relative gain") == "the independent run of D1 scores 0.0"
    assert reason(table, "skill", "relative gain") == "no independent run of s2"


def test_no_value_is_nan() -> None:
    table = measure(long_table([[0.1, 0.2], [0.5, 0.2]]), own(2, "D"), own(2, "s"))
    assert all(v is None or np.isfinite(v) for v in table["value"])
    assert table["normaliser"].dtype.kind == "i"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": 1.5}, "score_matrix needs 0 <= score <= 1"),
        ({"score": float("nan")}, "score_matrix needs 0 <= score <= 1"),
        ({"items": 0}, "items >= 1"),
        ({"skill": "s1", "dataset": "D1"}, "twice"),
    ],
)
def test_a_wrong_table_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure(long_table([[0.1, 0.2], [0.5, 0.2]]).assign(**change), own(2, "D"), own(2, "s"))


def test_an_own_round_0_is_refused() -> None:
    with pytest.raises(ValueError, match="own round of 's1' must be at least 1"):
        measure(long_table(HAND), own(3, "D"), {"s1": 0})


def test_own_rounds_are_the_rounds_of_first_arrival_in_order() -> None:
    rows = pd.DataFrame({"round": [2, 1, 1, 2, 3], "skill": ["b", "a", "c", "a", "b"]})
    assert own_rounds(rows, "skill") == {"a": 1, "c": 1, "b": 2}
    assert list(own_rounds(rows, "skill")) == ["a", "c", "b"]


def test_missing_columns_are_named() -> None:
    with pytest.raises(ValueError, match="score_matrix lacks columns: items, score"):
        as_matrix(long_table(HAND).drop(columns=["items", "score"]), "skill")
    with pytest.raises(ValueError, match="arrivals lacks columns: skill"):
        own_rounds(pd.DataFrame({"round": [1]}), "skill")
