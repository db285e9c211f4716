"""A study's cells, statistics, costs, tables and page, checked against values computed by hand or by scipy."""

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from adapt_infinity.study import page, tables
from adapt_infinity.study.costs import (
    Cost,
    ModelSize,
    forward_flops,
    from_json,
    probe_flops,
    reading_flops,
    stage_seconds,
    total,
    training_flops,
)
from adapt_infinity.study.figures import cliques, forgetting_lines, pareto, skill_map
from adapt_infinity.study.grid import Cell, cells, genesis_stream
from adapt_infinity.study.results import Outcome, Plan, curves, long_table, own_scores, zero_shot
from adapt_infinity.study.statistics import Ranks, estimate, holm, paired, ranked

PLAN = Plan(datasets={"a": 1, "b": 2}, skills={"x": 1, "y": 2}, rare=["y"], last=2)
COST = Cost(
    selection_seconds=2.0,
    training_seconds=3.0,
    evaluation_seconds=1.0,
    samples_probed=10,
    selection_flops=4e12,
    training_flops=6e12,
    evaluation_flops=1e12,
    stored_samples=100,
    state_bytes=7,
    added_parameters=5,
    peak_memory_gb=1.0,
)


def scores(x: list[float], y: list[float], base: float = 0.5) -> pd.DataFrame:
    """A score matrix of two skills that arrive in rounds 1 and 2, and of one base skill."""
    rows = [
        (t, dataset, skill, 10, value)
        for t, (first, second) in enumerate(zip(x, y, strict=True))
        for dataset, skill, value in (("a", "x", first), ("b", "y", second), ("base", "z", base))
    ]
    return pd.DataFrame(rows, columns=["round", "dataset", "skill", "items", "score"])


def outcome(strategy: str, seed: int, last_x: float, last_y: float, method: str = "finetune") -> Outcome:
    matrix = scores([0.0, 0.8, last_x], [0.0, 0.1, last_y])
    return Outcome(Cell(strategy, method, seed), matrix, [COST, COST])


def test_cells_are_unique_and_sorted_by_seed() -> None:
    grid = cells(["random", "score:el2n", "random@1.5"], ["finetune", "ewc"], [0, 1])
    assert len(grid) == len(set(grid)) == 12
    assert [cell.seed for cell in grid] == [0] * 6 + [1] * 6
    assert len({cell.stream("s") for cell in grid}) == 12
    assert Cell("score:el2n", "ewc", 3).stream("s") == "s-score_el2n-ewc-seed3"
    assert Cell("random@1.5", "ewc", 0).stream("s") == "s-random_1.5-ewc-seed0"
    assert (Cell("random@1.5", "ewc", 0).data_strategy, Cell("random@1.5", "ewc", 0).budget) == ("random", 1.5)
    assert (Cell("score:el2n", "ewc", 0).data_strategy, Cell("score:el2n", "ewc", 0).budget) == ("score:el2n", 1.0)
    variant = Cell("score:el2n+deep@1.5", "ewc", 0)
    assert (variant.data_strategy, variant.variant, variant.budget) == ("score:el2n", "deep", 1.5)
    assert variant.stream("s") == "s-score_el2n_deep_1.5-ewc-seed0"
    assert Cell("random@1.5", "ewc", 0).variant == ""
    assert genesis_stream("s", 2) == "s-genesis-seed2"


@pytest.mark.parametrize(
    ("strategies", "message"),
    [
        ([], "a study needs strategies"),
        (["random", "random"], "strategies lists random twice"),
        (["ran dom"], r"a strategy must be name, name:argument, name\+variant or name@budget"),
        (["random@0"], "the budget of 'random@0' must be greater than 0"),
    ],
)
def test_invalid_grids_are_errors(strategies: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cells(strategies, ["finetune"], [0])


def test_interval_by_hand() -> None:
    """1, 2, 3: mean 2, standard error 1/√3, t(0.975, 2) = 4.303."""
    found = estimate([1.0, 2.0, 3.0])
    assert (found.mean, found.count) == (2, 3)
    assert found.half == pytest.approx(4.302653 / math.sqrt(3))
    assert math.isnan(estimate([5.0]).half)
    with pytest.raises(ValueError, match="needs at least one value"):
        estimate([])


def test_paired_difference_equals_scipy() -> None:
    ours, theirs = [0.5, 0.7, 0.9], [0.4, 0.65, 0.7]
    found = paired(ours, theirs)
    assert found.mean == pytest.approx(0.35 / 3)
    assert found.p == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)
    assert paired([1.0, 2.0], [1.0, 2.0]).p == 1
    assert paired([2.0, 3.0], [1.0, 2.0]).p == 0
    assert math.isnan(paired([2.0], [1.0]).p)


def test_holm_by_hand() -> None:
    """0.01·3, 0.03·2, and 0.04·1, raised to the 0.06 before it; NaN does not count."""
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    adjusted = holm([0.01, float("nan"), 0.02])
    assert adjusted[0] == pytest.approx(0.02)
    assert math.isnan(adjusted[1])


def test_ranks_equal_scipy_and_the_critical_difference_equals_demsar() -> None:
    """Demšar 2006, table 5: q(0.05) of 4 competitors is 2.569; over 14 blocks the critical difference is 1.25."""
    draw = np.random.default_rng(0)
    values = draw.random((14, 4)) + np.array([0, 0.3, 0.6, 0.9])
    found = ranked(["a", "b", "c", "d"], values)
    assert found.critical == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 14)), abs=2e-3)
    assert found.p == pytest.approx(stats.friedmanchisquare(*values.T).pvalue)
    assert found.means.sum() == pytest.approx(10)
    assert found.means.argmin() == 3
    assert ranked(["a", "b", "c"], np.ones((3, 3))).p == 1.0
    with pytest.raises(ValueError, match="at least 3 competitors and 2 blocks, got 2 and 5"):
        ranked(["a", "b"], np.ones((5, 2)))


def test_cliques_by_hand() -> None:
    assert cliques(np.array([1.0, 1.5, 2.2, 4.0]), 1.0) == [(0, 1), (1, 2)]
    assert cliques(np.array([1.0, 3.0]), 1.0) == []


def test_pareto_front_by_hand() -> None:
    assert pareto(np.array([1.0, 2.0, 3.0, 1.0]), np.array([0.3, 0.2, 0.5, 0.4])) == [3, 2]


def test_incomplete_cost_json_is_an_error() -> None:
    facts = vars(COST)
    assert from_json({**facts, "more": 1}) == COST
    with pytest.raises(ValueError, match=r"a cost\.json lacks evaluation_flops; an older version wrote it"):
        from_json({name: value for name, value in facts.items() if name != "evaluation_flops"})


def test_flops_by_hand() -> None:
    """N = 100, a = 10, 4 layers. Per training token: 200 FLOPs forward, 220 backward."""
    size = ModelSize(layers=4, weights=100, adapter=10)
    assert training_flops(size, tokens=3, extra_tokens=2) == 3 * 420 + 2 * 200
    assert forward_flops(size, tokens=3) == 3 * 200
    gradient, embedding, zero_order = (
        {"feature": feature, "layers": [1, 3], "dim": 5} for feature in ("gradient", "embedding", "zero_order")
    )
    assert probe_flops(size, embedding, tokens=3) == 3 * 200
    assert probe_flops(size, gradient, tokens=3, reread_tokens=2) == 3 * (200 + 0.75 * 220) + 2 * 200
    assert probe_flops(size, zero_order, tokens=3) == 3 * 200 * (1 + 2 * 5 * 0.75)
    rows = pd.DataFrame({"tokens": [1, 2, 50], "reread_tokens": [0, 2, 40], "stale": [False, False, True]})
    assert reading_flops(size, rows, gradient) == probe_flops(size, gradient, 3, 2)


def test_costs_of_a_stream() -> None:
    found = total([COST, COST])
    assert (found["selection_seconds"], found["samples_probed"], found["total_flops"]) == (4.0, 20, 2e13)
    assert (found["stored_samples"], found["added_parameters"]) == (100, 5), "maxima, not sums"
    spent = stage_seconds({"features": 2.0, "pruning": 1.0, "training": 4.0, "benchmarks": 3.0, "intake": 9.0})
    assert spent == {"selection_seconds": 3.0, "training_seconds": 4.0, "evaluation_seconds": 3.0}


def test_long_table_has_all_measures() -> None:
    table = long_table([outcome("random", 0, 0.6, 0.5)], PLAN).set_index(["view", "measure"])["value"]
    assert table["scores", "all skills"] == pytest.approx((0.6 + 0.5 + 0.5) / 3)
    assert table["scores", "stream skills"] == pytest.approx(0.55)
    assert table["scores", "rare skills"] == pytest.approx(0.5)
    assert table["scores", "base skills"] == pytest.approx(0.5)
    assert table["last score", "x"] == pytest.approx(0.6)
    assert table["skill", "forgetting"] == pytest.approx(0.2)
    assert table["cost", "training_flops"] == 1.2e13
    assert math.isnan(table["skill", "relative gain"])


def test_missing_column_is_an_error_with_its_name() -> None:
    found = outcome("random", 0, 0.6, 0.5)
    with pytest.raises(ValueError, match="score_matrix of random lacks columns: items"):
        long_table([replace(found, score_matrix=found.score_matrix.drop(columns="items"))], PLAN)
    table = long_table([found], PLAN).drop(columns="seed")
    for function in (tables.summary, lambda table: tables.differences(table, "random")):
        with pytest.raises(ValueError, match="the long table of a study lacks columns: seed"):
            function(table)


def test_relative_gain_uses_independent_runs_of_the_same_method_and_seed() -> None:
    alone = Outcome(Cell("independent", "finetune", 0), scores([0.0, 0.8, 0.1], [0.0, 0.0, 0.5]))
    assert own_scores(alone.score_matrix, PLAN) == ({"a": 0.8, "b": 0.5}, {"x": 0.8, "y": 0.5})
    found = [alone, outcome("random", 0, 0.4, 0.5), outcome("random", 1, 0.4, 0.5)]
    gains = (
        long_table(found, PLAN).query("view == 'skill' and measure == 'relative gain'").set_index(["strategy", "seed"])
    )
    assert gains["value"]["random", 0] == pytest.approx(100 * (0.4 / 0.8 + 0.5 / 0.5) / 2)
    assert gains["undefined"]["random", 1] == "no independent runs to compare with"


def test_zero_shot_repeats_round_0() -> None:
    repeated = zero_shot(Cell("zero_shot", "finetune", 0), scores([0.3], [0.1]), 2)
    assert repeated.score_matrix.query("skill == 'x'")["score"].tolist() == [0.3, 0.3, 0.3]
    assert curves([repeated], PLAN)["value"].tolist() == pytest.approx([0.3, 0.2])


def test_means_and_differences_over_seeds() -> None:
    found = [
        outcome(name, seed, x + 0.01 * seed, 0.5)
        for name, x in (("random", 0.4), ("adapt_inf", 0.5), ("sequential", 0.2))
        for seed in range(3)
    ]
    table = long_table(found, PLAN)
    means = tables.summary(table).set_index(["strategy", "view", "measure"])
    assert means["mean"]["random", "last score", "x"] == pytest.approx(0.41)
    assert means["half"]["random", "last score", "x"] == pytest.approx(4.302653 * 0.01 / math.sqrt(3))
    assert means["undefined"]["random", "skill", "relative gain"] == "no independent runs to compare with"
    differences = tables.differences(table, "random").set_index(["strategy", "view", "measure"])
    assert differences["mean"]["adapt_inf", "last score", "x"] == pytest.approx(0.1)
    assert differences["mean"]["sequential", "last score", "x"] == pytest.approx(-0.2)
    assert "cost" not in set(differences.index.get_level_values("view"))
    assert tables.skill_ranks(table, "finetune").names == ["random", "adapt_inf", "sequential"]
    with pytest.raises(ValueError, match="no strategy 'oasis' to compare with; it has random, adapt_inf"):
        tables.differences(table, "oasis")


def test_methods_are_compared_with_the_same_strategy() -> None:
    last = {("random", "finetune"): 0.4, ("random", "ewc"): 0.45, ("c", "finetune"): 0.6, ("c", "ewc"): 0.5}
    found = [outcome(*key[:1], seed, x, 0.5, key[1]) for key, x in last.items() for seed in range(2)]
    table = long_table(found, PLAN)
    differences = tables.differences(table, "finetune", of="method").set_index(
        ["method", "strategy", "view", "measure"]
    )
    assert differences["mean"]["ewc", "random", "last score", "x"] == pytest.approx(0.05)
    assert differences["mean"]["ewc", "c", "last score", "x"] == pytest.approx(-0.1)
    assert (differences["seeds"] == 2).all()
    with pytest.raises(ValueError, match="no method 'mas' to compare with; it has finetune, ewc"):
        tables.differences(table, "mas", of="method")


def test_budget_of_equal_cost_by_hand() -> None:
    """Per round, selection takes 4 TFLOP and training 6, so random selection could train on 1 + 4/6 times as many."""
    free = replace(COST, selection_flops=0.0)
    found = [
        outcome("adapt_inf", 0, 0.5, 0.5),
        Outcome(Cell("random", "finetune", 0), scores([0, 0, 0], [0, 0, 0]), [free]),
    ]
    table = tables.cost_table(tables.summary(long_table(found, PLAN))).set_index("strategy")
    assert table["as much as"].to_dict() == {"adapt_inf": "random@1.67", "random": ""}


def test_means_are_formatted_in_points_or_percent() -> None:
    row = {"view": "scores", "measure": "all skills", "mean": 0.123, "half": 0.01, "undefined": ""}
    assert tables.format_mean(row) == "12.3 ± 1.0"
    assert tables.format_mean({**row, "half": float("nan")}, sign=True) == "+12.3"
    assert tables.format_mean({**row, "measure": "forgetting rate", "mean": 7.0, "half": 0.5}) == "7.0 ± 0.5"
    assert tables.format_mean({**row, "undefined": "why"}) == "undefined"


def test_html_page_needs_no_other_file(tmp_path: Path) -> None:
    found = [outcome(name, seed, 0.4 + 0.01 * seed, 0.5) for name in ("random", "a_b", "c") for seed in (0, 1)]
    facts = {
        "command": "kedro study --params a<b",
        "date": "2026-01-02",
        "versions": {"torch": "2"},
        "cells": 6,
        "missing": 0,
    }
    files = page.write(tmp_path / "study", found, PLAN, "random", facts)
    assert all(path.is_file() for path in files)
    html = (tmp_path / "study/study.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', html)
    assert "http" not in html
    assert "a&lt;b" in html
    assert html.count("data:image/png;base64") == 4, "cost, forgetting, skills, ranks"
    text = (tmp_path / "study/study.md").read_text()
    for word in (
        "2026-01-02",
        "torch 2",
        "Differences from random",
        "1/n sum_j R[T,j]",
        "Undefined values and reasons",
    ):
        assert word in text
    assert "Differences from finetune" not in text
    long = pd.read_csv(tmp_path / "study/table.csv")
    assert set(long["strategy"]) == {"random", "a_b", "c"}


def test_page_compares_methods_of_a_single_strategy(tmp_path: Path) -> None:
    found = [outcome("random", seed, 0.4, 0.5, method) for method in ("finetune", "ewc") for seed in (0, 1)]
    facts = {"command": "", "date": "", "versions": {}, "cells": 4, "missing": 0}
    page.write(tmp_path, found, PLAN, "random", facts)
    text = (tmp_path / "study.md").read_text()
    assert "Differences from finetune" in text
    assert "Differences from random" not in text, "there is only one strategy"
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["cost.png", "forgetting.png", "skills.png"]
    assert "| random | ewc | all skills | +0.0 ± 0.0 | 1.000 | 1.000 | 2 |" in text


def test_figures_compare_methods_of_a_single_strategy() -> None:
    found = [outcome("sequential", seed, 0.4, 0.5, method) for method in ("finetune", "ewc") for seed in (0, 1)]
    summary = tables.summary(long_table(found, PLAN))
    (rows,) = skill_map(summary, "sequential").axes
    assert [label.get_text() for label in rows.get_yticklabels()] == ["finetune", "ewc"]
    (panel,) = forgetting_lines(curves(found, PLAN)).axes
    assert panel.get_title() == "sequential"
    assert [line.get_label() for line in panel.get_lines()] == ["finetune", "ewc"]
    several = [*found, outcome("random", 0, 0.4, 0.5)]
    assert [axes.get_title() for axes in forgetting_lines(curves(several, PLAN)).axes] == ["finetune", "ewc"]


def test_rank_figure_has_all_names() -> None:
    from adapt_infinity.study.figures import rank_line

    figure = rank_line(Ranks(["a", "b", "c"], np.array([1.2, 2.0, 2.8]), 10, 0.01, 0.9), "finetune")
    words = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert all(word in words for word in ("a (1.20)", "b (2.00)", "c (2.80)", "critical difference 0.90"))
