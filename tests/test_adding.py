"""The examples of docs/adding.md work as they stand there: dropped into their rooms, they are found."""

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

from adapt_infinity import executors, registry
from adapt_infinity.benchmarks import graders
from adapt_infinity.datasets.sources import SourcesDataset
from adapt_infinity.features import scores
from adapt_infinity.reporting import results
from tests.conftest import CHECKPOINT, PROJECT, llava

PAGE = (PROJECT / "docs/adding.md").read_text()
EXAMPLES = dict(re.findall(r"`src/adapt_infinity/(\S+)\.py`.*?```python\n(.*?)```", PAGE, re.DOTALL))
YAML = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "<<:" not in block]


def yaml_of(key: str) -> dict[str, Any]:
    """The YAML example of the page that has this key."""
    (found,) = [block for block in YAML if key in block]
    return dict(found)


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
    assert sorted(EXAMPLES) == [
        "benchmarks/graders/starts",
        "executors/in_turn",
        "features/scores/margin",
        "reporting/figures/pool_sizes",
        "strategies/newest",
    ]
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


def test_the_model_family(root: Path, tmp_path: Path) -> None:
    """A LLaVA around another language model runs by configuration alone, with the page's targets."""
    from transformers import AutoProcessor, LlavaConfig, LlavaForConditionalGeneration, Qwen2Config

    import adapt_infinity

    embedded = LlavaConfig.from_pretrained(CHECKPOINT)
    text = embedded.text_config
    sizes = {name: getattr(text, name) for name in ("vocab_size", "hidden_size", "intermediate_size", "eos_token_id")}
    decoder = Qwen2Config(**sizes, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
    rest = {name: value for name, value in embedded.to_dict().items() if name not in ("text_config", "architectures")}
    torch.manual_seed(0)
    LlavaForConditionalGeneration(LlavaConfig(**rest, text_config=decoder)).save_pretrained(tmp_path / "model")
    AutoProcessor.from_pretrained(CHECKPOINT).save_pretrained(tmp_path / "model")

    targets = yaml_of("model")["model"]["adapter_targets"]
    model = adapt_infinity.load_model(tmp_path / "model", device="cpu", adapter_rank=2, adapter_targets=targets)
    assert {name.split(".")[-3] for name in model.adapter.tensors} >= {"q_proj", "down_proj"}
    records: list[Any] = [
        llava("a", ("<image>\nWhat is this?", "Noise."), image="p0.png"),
        llava("b", ("Two?", "Two.")),
    ]
    samples = adapt_infinity.read_samples(records, pictures=root)
    features = adapt_infinity.collect_features(model, samples, dim=16)
    assert features.gradients.shape == (2, 16)
    assert (features.scores["nll"] > 0).all()


def test_the_benchmark_source(tmp_path: Path) -> None:
    preset = yaml_of("cite")
    assert set(preset) == {"about", "download", "licence", "layout", "source", "expected", "cite"}
    assert set(preset["source"]["graders"].values()) <= set(graders.names())
    record = llava("1", ("What is the total?", "12.50"), task="receipt_total")
    (tmp_path / "receipts").mkdir()
    (tmp_path / "receipts/test.json").write_text(json.dumps([record, {**record, "id": "2"}]))
    (source,) = SourcesDataset(filepath=str(tmp_path), sources=[preset["source"]], split="test").load()
    assert (source.name, len(list(source.records))) == ("receipts", preset["expected"]["test"])


def test_the_figure_is_drawn_in_every_round(monkeypatch: pytest.MonkeyPatch) -> None:
    from adapt_infinity.pipelines import round

    pool_sizes = importlib.import_module("adapt_infinity.reporting.figures.pool_sizes").pool_sizes
    figure = {"pool_sizes": eval(_line("RoundFigure"), {**vars(results), "pool_sizes": pool_sizes})}
    monkeypatch.setattr(results, "FIGURES", {**results.FIGURES, **figure})
    pipeline = round.create_pipeline("random")
    assert "pool.draw_pool_sizes" in [node.name for node in pipeline.nodes]
    drawn = pool_sizes(pd.DataFrame({"source": ["a", "b", "a"]}))
    assert sorted(bar.get_width() for bar in drawn.axes[0].patches) == [1, 2]


def _line(word: str) -> str:
    """What stands behind the colon of the page's line with this word."""
    (found,) = re.findall(rf"^\"\w+\": ({word}.*),$", PAGE, re.MULTILINE)
    return str(found)


def test_the_executor() -> None:
    run, together = executors.load("in_turn"), executors.load_run_together("in_turn")
    assert list(run(lambda shared, task: shared + task, 1, [1, 2, 3], 4)) == [2, 3, 4]
    ranks: list[int] = []
    together(lambda shared, rank: ranks.append(rank), None, 1)
    assert ranks == [0]
    with pytest.raises(ValueError, match="has one worker, got workers=2"):
        together(lambda shared, rank: None, None, 2)
