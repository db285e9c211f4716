"""The closing table of a round: content, width of 80 columns, no colours."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from adapt_infinity.benchmarks.measures import measure
from adapt_infinity.reporting.table import RoundSummary, closing_table, expert_table, skill_table, summary_markdown


@pytest.fixture
def summary() -> RoundSummary:
    """Round 2 of a stream: charts arrived in round 1, clocks in round 2; naming is a base skill."""
    scores = pd.DataFrame(
        [
            {"round": i, "dataset": d, "skill": s, "grader": "exact", "items": 10, "score": row[k]}
            for i, row in enumerate([[0.1, 0.2, 0.9], [0.8, 0.3, 0.9], [0.6, 0.7, 0.85]])
            for k, (d, s) in enumerate([("one", "charts"), ("two", "clocks"), ("base", "naming")])
        ]
    )
    own = {"charts": 1, "clocks": 2}
    subset = pd.DataFrame(
        {"sample_id": np.arange(10), "cluster": [0] * 6 + [1] * 4, "source": ["one"] * 7 + ["two"] * 3}
    )
    experts = pd.DataFrame(
        {
            "cluster": [0, 0, 1, 1],
            "size": [6, 6, 4, 4],
            "rank": [1, 2, 1, 2],
            "expert": ["el2n", "entropy", "grand", "el2n"],
            "chosen": [True, False, True, False],
        }
    )
    return RoundSummary(
        stream="embedded",
        round=2,
        score_matrix=scores,
        measures=measure(scores, {"one": 1, "two": 2}, own),
        own_skills=own,
        rare_skills=frozenset({"clocks"}),
        subset=subset.assign(selected=[True, False] * 5),
        cluster_experts=experts,
        rejects={"no image": 2, "no answer": 1},
        pool_before=1200,
        pool_after=800,
        samples_probed=1200,
        seconds={"probe": 12.34, "train": 30.0},
        peak_memory_gb=1.5,
        artefacts="data/embedded/round_2",
        tracking="run 'embedded / round 2'",
    )


def printed(summary: RoundSummary, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(closing_table(summary))
    return out.getvalue()


def test_skill_table_has_scores_before_and_after(summary: RoundSummary) -> None:
    charts, clocks, naming = skill_table(summary).to_dict("records")
    assert (charts["zero_shot"], charts["before"], charts["now"]) == pytest.approx((0.1, 0.8, 0.6))
    assert charts["change"] == pytest.approx(-0.2)
    assert (clocks["own"], clocks["rare"]) == (2, True)
    assert naming["own"] is None


def test_expert_table_has_the_clusters_of_each_expert(summary: RoundSummary) -> None:
    assert expert_table(summary).to_dict("records") == [
        {"expert": "el2n", "clusters": 1, "samples": 6, "where": "0 (one)"},
        {"expert": "grand", "clusters": 1, "samples": 4, "where": "1 (two)"},
    ]


@pytest.mark.parametrize(
    "text",
    [
        "embedded, round 2",
        "clocks (rare)",
        "-0.20",
        "2, now",
        "never",
        "relative gain",
        "no independent runs to compare with",
        "1/n sum_{own(j)<T}",
        "0.650 (2)",
        "el2n",
        "1,200 -> 800 samples (400 pruned)",
        "5 samples trained on, 1,200 probed",
        "3: no image 2, no answer 1",
        "42.3: probe 12.3, train 30.0",
        "1.50 GB",
        "data/embedded/round_2",
        "embedded / round 2",
    ],
)
def test_closing_table_contains(summary: RoundSummary, text: str) -> None:
    assert text in " ".join(printed(summary, 200).split())
    assert text in summary_markdown(summary)


def test_closing_table_fits_in_80_columns(summary: RoundSummary) -> None:
    lines = printed(summary, 80).splitlines()
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for uncut in ("clocks (rare)", "forgetting rate", "undefined", "1,200 -> 800", "0.650 (2)", "untrained"):
        assert uncut in text
    assert "…" not in text


def test_markup_in_names_is_printed_as_text(summary: RoundSummary) -> None:
    assert "[bold]odd[/x]" in printed(replace(summary, artefacts="[bold]odd[/x]"))
    skills = summary.score_matrix["skill"].replace("charts", "[b]charts[/x]")
    assert "[b]charts[/x]" in printed(replace(summary, score_matrix=summary.score_matrix.assign(skill=skills)))


def test_round_0_has_only_zero_shot_scores(summary: RoundSummary) -> None:
    base = summary.score_matrix[summary.score_matrix["round"] == 0]
    zero = RoundSummary(
        stream="embedded",
        round=0,
        score_matrix=summary.score_matrix,
        measures=measure(base, {"one": 1, "two": 2}, summary.own_skills),
        own_skills=summary.own_skills,
    )
    text = printed(zero)
    assert "round 0 (zero-shot)" in text
    assert "not measured" in text
    assert "Selector experts" not in text
    assert skill_table(zero)["before"].tolist() == [None] * 3
    assert "no round has been run" in summary_markdown(zero)


def test_markdown_tables_are_rectangular(summary: RoundSummary) -> None:
    for block in summary_markdown(summary).split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_rounded_zero_has_no_minus_sign(summary: RoundSummary) -> None:
    """-0.0004 is printed as 0.000, and a change of -0.001 as +0.00."""
    measures = summary.measures.assign(value=-0.0004)
    scores = summary.score_matrix.assign(score=[0.5] * 6 + [0.499] * 3)
    text = summary_markdown(replace(summary, measures=measures, score_matrix=scores))
    assert "-0.0" not in text
    assert "+0.00" in text
