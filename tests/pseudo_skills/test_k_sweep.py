"""The sweep over k finds how many clusters were planted."""

import numpy as np
import pytest

from adapt_infinity.pseudo_skills import k_sweep
from adapt_infinity.pseudo_skills.k_sweep import SweepResult, best_k, geometric
from tests.pseudo_skills.planted import clustered, planted


@pytest.mark.parametrize(
    ("skills", "noise"), [(7, 0.7), *(pytest.param(*more, marks=pytest.mark.slow) for more in ((5, 1.0), (13, 0.7)))]
)
@pytest.mark.usefixtures("unchecked")
def test_the_planted_number_is_found(skills: int, noise: float) -> None:
    rows, _ = planted(n=320, skills=skills, noise=noise, seed=skills)
    table, sweep = clustered(rows, k="auto", restarts=4)
    assert sweep["k"][sweep["chosen"]].tolist() == [skills]
    assert table["cluster"].nunique() == skills
    assert sweep["k"].is_monotonic_increasing
    assert sweep["k"].is_unique
    assert (sweep["rows"] == 320).all()
    assert sweep.loc[sweep["chosen"], "silhouette"].item() == sweep["silhouette"].max()


@pytest.mark.usefixtures("unchecked")
def test_candidates_that_are_given_are_the_only_ones() -> None:
    rows, _ = planted(n=480, skills=12)
    table, sweep = clustered(rows, k="auto", candidates=[6, 12, 30], restarts=4)
    assert sweep["k"].tolist() == [6, 12, 30]
    assert sweep["chosen"].tolist() == [False, True, False]
    assert sweep["within"].is_monotonic_decreasing
    assert table["cluster"].nunique() == 12


def test_the_sweep_reads_a_sample_of_the_rows() -> None:
    rows, _ = planted(n=1200, skills=6)
    _, sweep = clustered(rows, k="auto", candidates=[6], sweep_rows=300)
    assert sweep["rows"].tolist() == [300]


def test_within_and_silhouette_by_hand() -> None:
    """The squared distance of two orthogonal rows of length 1 to their mean direction is 2 - √2 each."""
    _, one = clustered(np.eye(2), k=1)
    assert one["within"].item() == pytest.approx(2 * (2 - 2**0.5), abs=1e-6)
    assert one["silhouette"].isna().all()
    assert (one["k"].item(), one["clusters"].item(), one["chosen"].item()) == (1, 1, True)
    _, two = clustered(np.eye(2)[[0, 0, 1, 1]], k=2)
    assert two["within"].item() == pytest.approx(0, abs=1e-6)
    assert two["silhouette"].item() == pytest.approx(1)
    assert two["stability"].isna().all()  # not measured: k was given


def test_the_rule_by_hand() -> None:
    """4 has the highest silhouette of the stable candidates; that of 8 is higher, but 8 is not stable."""
    results = [
        SweepResult(k, k, 9, 0.0, s, t) for k, s, t in [(2, 0.3, 0.96), (4, 0.5, 0.97), (8, 0.6, 0.5), (9, None, 1.0)]
    ]
    assert best_k(results) == 4
    assert best_k([SweepResult(k, k, 9, 0.0, 0.5, 1.0) for k in (5, 3, 4)]) == 3


def test_geometric_candidates() -> None:
    assert geometric(10) == [4]
    assert geometric(200) == [4, 6, 8, 11]
    assert geometric(10**6)[-3:] == [128, 181, 256]
    assert k_sweep._between([SweepResult(k, k, 9, 0.0, None, None) for k in (4, 6, 8, 11)], 8) == [7, 9, 10]
    assert len(k_sweep._between([SweepResult(k, k, 9, 0.0, None, None) for k in (64, 91, 128)], 91)) == 8


def test_a_pool_too_small_for_any_candidate_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"pseudo_skills\.k is auto, but the pool's 3 rows are too few"):
        clustered(np.eye(3), k="auto")
