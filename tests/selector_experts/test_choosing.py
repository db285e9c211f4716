"""The expert of a cluster is the score with the highest entropy, whatever its unit; the other rules of choice."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt_infinity.selector_experts import choices
from adapt_infinity.selector_experts.choosing import choose_experts as choose_in_round
from adapt_infinity.selector_experts.scoring import SelectorParams, start_record
from tests.conftest import examples

EXPERTS = ["el2n", "grand", "perplexity"]
VALUES = st.lists(st.integers(-200, 200).map(lambda value: value / 8), min_size=1, max_size=40)


def params(experts: list[str] = EXPERTS, **changed: Any) -> SelectorParams:
    defaults = {
        "choice": "entropy",
        "bins": 50,
        "range": 4.0,
        "neighbours": 10,
        "reference": "",
        "targets_per_skill": 5,
    }
    return SelectorParams(**{"experts": experts, "seed": 0, **defaults, **changed})


def choose_experts(clusters: pd.DataFrame, scores: pd.DataFrame, params: SelectorParams) -> pd.DataFrame:
    """Choose in the first round, which has no previous scores."""
    return choose_in_round(clusters, scores.assign(nll=1.0), *start_record(), params, 1)


def tables(cluster: list[int], **columns: Sequence[float] | np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
    ids = 10 * np.arange(len(cluster)) + 3
    clusters = pd.DataFrame({"sample_id": ids, "cluster": np.array(cluster, dtype=np.int32), "similarity": 1.0})
    return clusters, pd.DataFrame({"sample_id": ids, **columns})


def chosen(table: pd.DataFrame) -> dict[int, str]:
    rows = table[table["chosen"]]
    return dict(zip(rows["cluster"], rows["expert"], strict=True))


def slow_entropy(values: list[float]) -> float:
    """The definition (docs/method.md, section 4) for one score of one cluster, with numpy's histogram."""
    z = (np.array(values) - np.mean(values)) / np.std(values)
    counts, _ = np.histogram(z.clip(-4, 4), bins=50, range=(-4, 4))
    shares = counts[counts > 0] / len(values)
    return float(-(shares * np.log(shares)).sum())


def test_by_hand() -> None:
    """Four values in four bins have entropy ln 4; two values with two rows each ln 2. In cluster 7 they are swapped."""
    clusters, scores = tables([0, 0, 0, 0, 7, 7, 7, 7], el2n=[1, 2, 3, 4, 1, 1, 9, 9], grand=[5, 5, 6, 6, 1, 2, 3, 4])
    table = choose_experts(clusters, scores, params(["el2n", "grand"]))
    assert table["cluster"].tolist() == [0, 0, 7, 7]
    assert table["size"].tolist() == [4, 4, 4, 4]
    assert table["rank"].tolist() == [1, 2, 1, 2]
    assert table["expert"].tolist() == ["el2n", "grand", "grand", "el2n"]
    assert table["entropy"].tolist() == pytest.approx(list(np.log([4, 2, 4, 2])))
    assert table["chosen"].tolist() == [True, False, True, False]


def test_agrees_with_the_definition_cluster_by_cluster() -> None:
    rng = np.random.default_rng(0)
    cluster = rng.integers(0, 5, 600)
    columns = {
        "el2n": rng.normal(size=600),
        "grand": rng.gamma(1, size=600),
        "perplexity": rng.uniform(size=600) ** 5,
    }
    table = choose_experts(*tables(cluster.tolist(), **columns), params())
    for line in table.itertuples():
        expected = slow_entropy(columns[str(line.expert)][cluster == line.cluster].tolist())
        assert line.entropy == pytest.approx(expected)
    for _, lines in table.groupby("cluster"):
        assert lines["entropy"].is_monotonic_decreasing


@given(VALUES, st.floats(0.001, 1000), st.floats(-1000, 1000))
@examples(200)
def test_the_unit_of_a_score_does_not_matter(values: list[float], factor: float, offset: float) -> None:
    rng = np.random.default_rng(len(values))
    other = rng.normal(size=len(values)).tolist()
    cluster = [0] * len(values)
    plain = choose_experts(*tables(cluster, el2n=values, grand=other), params(["el2n", "grand"]))
    moved = [factor * value + offset for value in values]
    scaled = choose_experts(*tables(cluster, el2n=moved, grand=other), params(["el2n", "grand"]))
    assert plain["expert"].tolist() == scaled["expert"].tolist()
    assert plain["entropy"].tolist() == pytest.approx(scaled["entropy"].tolist())


def test_a_value_on_an_edge_stays_in_its_bin() -> None:
    """The mean lies on the edge of two bins; rounding must not move its row into the other bin."""
    values = np.array([-100, -20, -2.5, -2.5, 0, 5, 60, 60])
    units = {f"in unit {unit}": 100_000.1 + unit * values for unit in np.linspace(0.1, 3, 100)}
    table = choose_experts(*tables([0] * 8, **units), params(list(units)))
    assert table["entropy"].tolist() == pytest.approx([np.log(8) - 6 / 8 * np.log(2)] * 100)


@given(st.permutations(range(30)))
def test_the_order_of_rows_does_not_matter(order: list[int]) -> None:
    rng = np.random.default_rng(1)
    clusters, scores = tables(rng.integers(0, 3, 30).tolist(), **{name: rng.normal(size=30) for name in EXPERTS})
    expected = choose_experts(clusters, scores, params())
    shuffled = choose_experts(clusters.iloc[order], scores.iloc[order[::-1]], params())
    pd.testing.assert_frame_equal(shuffled, expected)


@pytest.mark.parametrize("constant", [0.0, 0.1, -1e9, 1e300])
def test_a_constant_score_is_never_chosen_over_another(constant: float) -> None:
    table = choose_experts(
        *tables([0] * 1000, el2n=[constant] * 1000, grand=[1.0] + [0.0] * 999),
        params(["el2n", "grand"], bins=3, range=99.0),
    )
    assert chosen(table) == {0: "grand"}
    assert table.set_index("expert").loc["el2n", "entropy"] == 0


def test_a_score_that_varies_by_rounding_only_is_constant() -> None:
    noise = np.array([1, 1 + 1e-7, 1 - 6e-8, 1], dtype=np.float32)
    table = choose_experts(*tables([0] * 4, el2n=noise, grand=[0.0, 0, 0, 1]), params(["el2n", "grand"]))
    assert chosen(table) == {0: "grand"}


def test_the_listed_order_decides_between_constant_scores() -> None:
    """All scores are constant in a cluster of one row."""
    clusters, scores = tables([0, 1, 1], el2n=[5.0, 2, 2], grand=[6.0, 3, 3])
    assert chosen(choose_experts(clusters, scores, params(["grand", "el2n"]))) == {0: "grand", 1: "grand"}
    assert chosen(choose_experts(clusters, scores, params(["el2n", "grand"]))) == {0: "el2n", 1: "el2n"}


def test_a_count_can_be_an_expert() -> None:
    clusters, scores = tables([0, 0, 0], answer_tokens=[1, 2, 3])
    assert chosen(choose_experts(clusters, scores, params(["answer_tokens"]))) == {0: "answer_tokens"}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_names_its_sample(value: float) -> None:
    clusters, scores = tables([0, 1, 1], el2n=[1.0, 2.0, 3.0], grand=[1.0, 2.0, value])
    with pytest.raises(ValueError, match=r"'grand'.*\[23\]"):
        choose_experts(clusters, scores, params(["el2n", "grand"]))


def test_an_unknown_score_names_the_key() -> None:
    with pytest.raises(ValueError, match=r"selector_experts\.experts.*charm.*el2n"):
        choose_experts(*tables([0], el2n=[1.0]), params(["charm"]))


@pytest.mark.parametrize(
    ("table", "column"),
    [("clusters", "cluster"), ("scores", "nll"), ("previous_scores", "nll"), ("previous_subset", "selected")],
)
def test_a_missing_column_is_named(table: str, column: str) -> None:
    clusters, scores = tables([0, 1], el2n=[1.0, 2.0], nll=[1.0, 2.0])
    previous_scores, previous_subset = start_record()
    given = {"clusters": clusters, "scores": scores}
    given |= {"previous_scores": previous_scores, "previous_subset": previous_subset}
    given[table] = given[table].drop(columns=column)
    with pytest.raises(ValueError, match=f"^{table} lacks columns: {column}"):
        choose_in_round(**given, params=params(["el2n"]), round=1)


def test_tables_of_different_samples_are_an_error() -> None:
    clusters, scores = tables([0, 1], el2n=[1.0, 2.0])
    with pytest.raises(ValueError, match="clusters has 2 samples, but scores has 1"):
        choose_experts(clusters, scores[:1], params(["el2n"]))


def test_an_empty_pool_has_no_experts() -> None:
    assert choose_experts(*tables([], el2n=[]), params(["el2n"])).empty


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("experts", []),
        ("experts", ["el2n", "el2n"]),
        ("experts", ["learnability"]),
        ("choice", "best"),
        ("bins", 1),
        ("range", 0.0),
        ("range", np.nan),
        ("neighbours", 0),
        ("targets_per_skill", 0),
        ("seed", -1),
    ],
)
def test_parameters_are_checked(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"selector_experts\.{key}"):
        params(**{key: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("choice", choices.names())
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.permutations(range(40)))
@examples(20)
def test_every_choice_ranks_every_expert_once(choice: str, cluster: list[int], order: list[int]) -> None:
    rng = np.random.default_rng(len(cluster))
    names = [*EXPERTS, "rank_average"]
    clusters, scores = tables(cluster, **{name: rng.normal(size=len(cluster)) for name in names})
    table = choose_experts(clusters, scores, params(choice=choice))
    for _, rows in table.groupby("cluster"):
        assert rows["rank"].tolist() == list(range(1, len(rows) + 1))
        assert set(rows["expert"]) == set(params(choice=choice).competing)
        assert rows["chosen"].tolist() == [True] + [False] * (len(rows) - 1)
    order = [row for row in order if row < len(cluster)]
    pd.testing.assert_frame_equal(choose_experts(clusters.iloc[order], scores, params(choice=choice)), table)


def test_fixed_chooses_the_first_listed_expert_and_rank_average_the_mean_rank() -> None:
    clusters, scores = tables([0] * 4, el2n=[1, 1, 1, 2], grand=[1, 2, 3, 4], rank_average=[0, 0, 0, 0])
    assert chosen(choose_experts(clusters, scores, params(["el2n", "grand"], choice="fixed"))) == {0: "el2n"}
    table = choose_experts(clusters, scores, params(["el2n", "grand"], choice="rank_average"))
    assert table["expert"].tolist() == ["rank_average", "grand", "el2n"]


def test_random_draws_each_cluster_independently_and_anew_in_each_round() -> None:
    cluster = [row % 20 for row in range(60)]
    clusters, scores = tables(cluster, **{name: np.arange(60.0) for name in EXPERTS})
    given = params(choice="random")
    first, second = (
        chosen(choose_in_round(clusters, scores.assign(nll=1.0), *start_record(), given, round)) for round in (1, 2)
    )
    assert first != second
    assert set(first.values()) == set(EXPERTS)
    some = clusters["cluster"] < 5
    alone = chosen(choose_experts(clusters[some], scores[some], given))
    assert alone == {cluster: first[cluster] for cluster in range(5)}


def second_round(expert: list[str], selected: list[bool], decrease: list[float]) -> pd.DataFrame:
    """The table of a second round with one cluster, whose losses have decreased by `decrease` since the first."""
    n = len(expert)
    clusters, scores = tables([0] * n, el2n=np.arange(n), grand=[0.0] * (n - 1) + [1], nll=1 - np.array(decrease))
    ids = scores["sample_id"]
    before = pd.DataFrame({"sample_id": ids, "nll": 1.0, "trained_nll": np.nan})
    subset = pd.DataFrame({"sample_id": ids, "cluster": 0, "expert": expert, "selected": selected})
    return choose_in_round(clusters, scores, before, subset, params(["el2n", "grand"], choice="validation"), 2)


def test_validation_prefers_the_expert_whose_selection_lowered_the_loss_of_others() -> None:
    """The loss fell for rows ranked by grand and rose for those ranked by el2n; the last row was itself trained on."""
    table = second_round(["grand"] * 5 + ["el2n"] * 6, [False] * 10 + [True], [0.5] * 5 + [-0.1] * 5 + [9.0])
    assert table["expert"].tolist() == ["grand", "el2n"]
    assert table["gain"].tolist() == pytest.approx([0.5, -0.1])


def test_validation_without_enough_samples_chooses_by_entropy() -> None:
    """Four rows are too few to measure the gain of grand, so el2n, which has the higher entropy, comes first."""
    table = second_round(["grand"] * 4 + ["charm"] * 6, [False] * 10, [0.5] * 4 + [0.0] * 6)
    assert table["expert"].tolist() == ["el2n", "grand"]
    assert table["gain"].isna().all()
