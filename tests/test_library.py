"""The functions for use from Python: the numbers of a round, the errors of a round, and nothing heavy at import."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest

import adapt_infinity
from adapt_infinity import Model, Samples, library
from tests.conftest import CHECKPOINT, PROJECT, llava

HEAVY = ("torch", "transformers", "pandas", "kedro", "mlflow", "sklearn", "matplotlib")


@pytest.fixture(scope="module")
def samples(root: Path) -> Samples:
    questions = ("What is this?", "Which colour?", "How many dots?", "Describe it.")
    records: list[Any] = [
        llava(f"r{number}", (f"<image>\n{questions[number % 4]}", f"Answer {number % 7}"), image=f"p{number % 6}.png")
        for number in range(24)
    ]
    records.append(llava("empty", ("<image>\nWhat?", ""), image="p0.png"))
    return adapt_infinity.read_samples(records, pictures=root, max_reject_share=0.5)


@pytest.fixture(scope="module")
def model() -> Model:
    return adapt_infinity.load_model(CHECKPOINT, device="cpu", adapter_rank=4, adapter_alpha=8)


@pytest.fixture(scope="module")
def chosen(samples: Samples, model: Model) -> dict[str, Any]:
    features = adapt_infinity.collect_features(model, samples, dim=64)
    clusters = adapt_infinity.find_pseudo_skills(features, k=3)
    scores = adapt_infinity.score_samples(features, clusters)
    experts = adapt_infinity.choose_experts(clusters, scores)
    return {"features": features, "clusters": clusters, "scores": scores, "experts": experts}


def test_records_become_samples_and_bad_ones_are_set_aside_with_their_reason(samples: Samples) -> None:
    assert len(samples) == 24
    assert samples.table["source_id"].tolist() == [f"r{number}" for number in range(24)]
    assert samples.rejects["source_id"].tolist() == ["empty"]
    assert "answer" in samples.rejects["reason"].iloc[0]


def test_from_samples_to_a_subset_and_removals(samples: Samples, chosen: dict[str, Any]) -> None:
    subset = adapt_infinity.select_subset(samples, **chosen, budget=9)
    assert subset["selected"].sum() == 9
    assert subset["sample_id"].tolist() == list(range(24))
    assert (subset.groupby("cluster")["selected"].sum() > 0).all()
    removals = adapt_infinity.choose_removals(samples, **chosen, pool_size=20)
    assert len(removals) == 4
    spared = int(removals["sample_id"].iloc[0])
    kept = adapt_infinity.choose_removals(samples, **chosen, pool_size=20, must_keep=[spared])
    assert spared not in kept["sample_id"].tolist()
    assert len(kept) == 4


def test_lists_of_samples_are_obeyed(samples: Samples, chosen: dict[str, Any]) -> None:
    subset = adapt_infinity.select_subset(samples, **chosen, budget=3, include=["samples/r5"], exclude=[6])
    selected = subset.loc[subset["selected"], "sample_id"].tolist()
    assert 5 in selected
    assert 6 not in selected


def test_what_was_read_is_not_read_again(samples: Samples, model: Model, tmp_path: Path) -> None:
    first = adapt_infinity.collect_features(model, samples, folder=tmp_path, dim=64)
    before = np.array(first.gradients)
    again = adapt_infinity.collect_features(model, samples, folder=tmp_path, dim=64)
    assert again.record["rows read"] == 0
    assert np.array_equal(np.array(again.gradients), before)


def test_a_wrong_parameter_is_the_rounds_own_error(samples: Samples, chosen: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"subset.*bugdet.*budget"):
        adapt_infinity.select_subset(samples, **chosen, bugdet=9)
    with pytest.raises(ValueError, match=r"pseudo_skills\.k"):
        adapt_infinity.find_pseudo_skills(chosen["features"], k=0)
    with pytest.raises(ValueError, match="questions' words: pass the samples"):
        adapt_infinity.find_pseudo_skills(chosen["features"], space="questions")


def test_a_missing_column_is_named(chosen: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"scores.*nll"):
        adapt_infinity.choose_experts(chosen["clusters"], chosen["scores"].drop(columns="nll"))


def test_measures_of_a_score_matrix() -> None:
    matrix = pd.DataFrame(
        {
            "round": [0, 0, 1, 1, 2, 2],
            "dataset": ["a", "b"] * 3,
            "skill": ["s", "t"] * 3,
            "score": [0.1, 0.2, 0.8, 0.3, 0.6, 0.9],
            "items": 10,
        }
    )
    measures = adapt_infinity.measure_scores(matrix, {"a": 1, "b": 2}, {"s": 1, "t": 2})
    found = measures.set_index(["view", "measure"])["value"]
    assert found["dataset", "MFN"] == pytest.approx((0.6 + 0.9) / 2)
    assert found["dataset", "BWT"] == pytest.approx(0.6 - 0.8)


def test_importing_the_package_loads_nothing_heavy() -> None:
    asked = f"import sys, adapt_infinity; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_offers_what_the_library_has() -> None:
    own = {name for name, value in vars(library).items() if getattr(value, "__module__", "") == library.__name__}
    assert set(adapt_infinity.__all__) == own
    assert set(adapt_infinity.__all__) <= set(dir(adapt_infinity))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = adapt_infinity.nothing


def test_the_notebook_goes_from_records_to_a_subset_in_few_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cells run as they stand, in a folder with the example data."""
    notebook = nbformat.read(PROJECT / "notebooks/library.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in cells)  # what is committed carries no results
    lines = [line for line in cells[0].source.splitlines() if line.strip()]
    assert len(lines) <= 15
    from adapt_infinity.embedded.stream import EmbeddedStreamParams, write_stream

    write_stream(tmp_path / "data/embedded_stream", EmbeddedStreamParams(train_size=60, design_size=1, test_size=1))
    (tmp_path / "src").symlink_to(PROJECT / "src")
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    for cell in cells:
        exec(cell.source, found)
    assert found["subset"]["selected"].sum() == 40
