"""The examples of docs/adding.md work as they stand there: dropped into their rooms, they are found."""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from adapt_infinity import registry
from adapt_infinity.benchmarks import graders
from adapt_infinity.features import scores
from tests.conftest import PROJECT

EXAMPLES = dict(
    re.findall(
        r"`src/adapt_infinity/(\S+)\.py`.*?```python\n(.*?)```", (PROJECT / "docs/adding.md").read_text(), re.DOTALL
    )
)


@pytest.fixture(autouse=True)
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each room's folder, with the example beside the files that are there."""
    made = []
    for place, code in EXAMPLES.items():
        room, name = place.replace("/", ".").rsplit(".", 1)
        package = importlib.import_module(f"adapt_infinity.{room}")
        folder = tmp_path / room
        folder.mkdir()
        (folder / f"{name}.py").write_text(code)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
        made.append(f"adapt_infinity.{room}.{name}")
    yield
    for name in made:
        sys.modules.pop(name, None)


def test_the_examples_are_found() -> None:
    assert sorted(EXAMPLES) == ["benchmarks/graders/starts", "features/scores/margin", "strategies/newest"]
    assert "margin" in scores.names()


def test_the_expert() -> None:
    logits = torch.log(torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]]))
    outputs = scores.Outputs(logits, torch.tensor([[0, 0]]), torch.ones(1), torch.ones(1))
    expected = (torch.tensor(2.0).log() + torch.tensor(0.125).log()) / 2
    assert scores.load("margin")(outputs).item() == pytest.approx(expected.item())


def test_the_grader() -> None:
    assert graders.load("starts")("A cat, I think", "a cat") == 1
    assert graders.load("starts")("I think a cat", "a cat") == 0


def test_the_strategy_is_a_pipeline_without_a_probe() -> None:
    from adapt_infinity.pipelines import round

    pipeline = round.create_pipeline("newest")
    assert "subset.select_subset" in [node.name for node in pipeline.nodes]
    assert "features" not in pipeline.all_outputs()
    assert registry.module("adapt_infinity.strategies", "newest").__doc__
