"""The score of each sample by its cluster's expert: by hand, and every table that lacks something is an error."""

import numpy as np
import pandas as pd
import pytest

from adapt_infinity.selector_experts.expert_scores import expert_scores

CLUSTERS = pd.DataFrame({"sample_id": [4, 2, 7], "cluster": [1, 0, 1]})
EXPERTS = pd.DataFrame({"cluster": [0, 0, 1, 1], "expert": ["nll", "el2n"] * 2, "chosen": [True, False, False, True]})
SCORES = pd.DataFrame({"sample_id": [4, 2, 7], "nll": [0.1, 0.2, np.nan], "el2n": [1.0, np.inf, 3.0]})


def test_by_hand() -> None:
    """Scores of other experts may be undefined."""
    names, expert, score = expert_scores(CLUSTERS, EXPERTS, SCORES)
    assert names.tolist() == ["el2n", "nll"]
    assert expert.tolist() == [0, 1, 0]
    assert score.tolist() == [1.0, 0.2, 3.0]


@pytest.mark.parametrize(
    ("clusters", "experts", "scores", "message"),
    [
        (CLUSTERS, EXPERTS, SCORES.drop(columns="el2n"), "scores lacks columns: el2n"),
        (CLUSTERS, EXPERTS.drop(columns="chosen"), SCORES, "cluster_experts lacks columns: chosen"),
        (CLUSTERS.drop(columns="cluster"), EXPERTS, SCORES, "clusters lacks columns: cluster"),
        (CLUSTERS, EXPERTS[EXPERTS["cluster"] == 0], SCORES, "no expert for cluster 1"),
        (CLUSTERS, EXPERTS, SCORES.assign(el2n=np.nan), r"2 scores are not finite, first 'el2n' = nan of sample 4"),
    ],
)
def test_what_is_missing_is_named(
    clusters: pd.DataFrame, experts: pd.DataFrame, scores: pd.DataFrame, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        expert_scores(clusters, experts, scores)
