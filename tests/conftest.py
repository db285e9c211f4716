"""Shapes and types of every signature are checked while the tests run (jaxtyping + beartype)."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("DO_NOT_TRACK", "true")
if "PYTEST_XDIST_WORKER" in os.environ:  # tests run side by side: a core each, for what they start, too
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("MKL_NUM_THREADS", "1")

from jaxtyping import config, install_import_hook

install_import_hook("adapt_infinity", "beartype.beartype")

import gc
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pytest
from hypothesis import is_hypothesis_test, settings
from PIL import Image

from adapt_infinity.data import parquet
from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import SAMPLE_SCHEMA
from adapt_infinity.intake.reading import IntakeParams, Source, check_records, to_dataframe

if TYPE_CHECKING:  # torch takes seconds to import, and the process that only hands out tests needs none
    from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, Vlm
    from adapt_infinity.model.lora import Adapter

EXAMPLES = 100  # of a test of Hypothesis that does not say how many
settings.register_profile("full", deadline=None, max_examples=EXAMPLES)  # no deadline: a busy machine is no failure
settings.register_profile("quick", deadline=None, max_examples=EXAMPLES // 4)
settings.load_profile("full")

PROJECT = Path(__file__).parents[1]
CHECKPOINT = PROJECT / "src/adapt_infinity/embedded/checkpoint"
TARGETS = (
    r".*(language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    r"|multi_modal_projector\.linear_[12])"
)
INTAKE = IntakeParams(max_text=10_000, max_reject_share=0.0, near_bits=10, on_contamination="report", workers=2)


SLOWEST = ("test_study", "test_round", "test_realdata", "test_failures")  # of tests/pipelines


def pytest_configure(config: pytest.Config) -> None:
    """The quick suite draws a quarter of the examples of each Hypothesis test; `pytest -m slow` draws all of them."""
    settings.load_profile("quick" if "not slow" in config.option.markexpr else "full")


def examples(count: int, **more: Any) -> settings:
    """Settings of a Hypothesis test that draws `count` examples, and a quarter of them in the quick suite."""
    return settings(max_examples=max(3, count * settings().max_examples // EXAMPLES), **more)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark Hypothesis tests with all their examples as slow, and put the files that take minutes first.

    With the longest files first, all test processes end at about the same time.
    """
    for item in items:
        if settings().max_examples == EXAMPLES and is_hypothesis_test(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.slow)

    def place(item: pytest.Item) -> int:
        slow = item.path.parent.name == "pipelines" and item.path.stem in SLOWEST
        return SLOWEST.index(item.path.stem) if slow else len(SLOWEST)

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """Let the garbage collector skip all that the imports made: a full collection takes 0.01 s instead of 0.3 s."""
    gc.collect()
    gc.freeze()


def intake(**changes: Any) -> IntakeParams:
    """The usual parameters of intake with some of them changed."""
    return replace(INTAKE, **changes)


def checked(
    source: Source, pictures: Pictures, params: IntakeParams = INTAKE, **options: Any
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Arrivals and rejects of a source, drained in that order, as tables in memory."""
    arrivals, rejects = check_records(source, pictures, params, **options)
    return to_dataframe(arrivals), to_dataframe(rejects)


def unread(rows: pd.DataFrame) -> ds.Dataset:
    """Rows of samples as a round passes them on: a table that nobody has read yet."""
    return parquet.in_memory(rows, SAMPLE_SCHEMA)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Signatures are not checked: for tests of many small steps, each of which another test checks."""
    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", before)


@pytest.fixture(scope="session")
def base_model() -> Checkpoint:
    from adapt_infinity.model.checkpoint import Checkpoint

    return Checkpoint(CHECKPOINT)


@pytest.fixture(scope="session")
def model_params() -> ModelParams:
    from adapt_infinity.model.checkpoint import ModelParams

    return ModelParams(
        device="cpu", dtype="float32", max_tokens=512, adapter_rank=4, adapter_alpha=8, adapter_targets=TARGETS
    )


@pytest.fixture(scope="session")
def warm_adapter(base_model: Checkpoint, model_params: ModelParams) -> Adapter:
    """An adapter whose B is not zero, without any training."""
    from adapt_infinity.model.checkpoint import load_vlm, new_adapter
    from adapt_infinity.model.lora import Adapter

    fresh = new_adapter(load_vlm(base_model, model_params), model_params, seed=0)
    draw = np.random.default_rng(0)
    tensors = {
        name: tensor + tensor.new_tensor(draw.normal(0, 0.02, tensor.shape)) if "lora_B" in name else tensor
        for name, tensor in fresh.tensors.items()
    }
    return Adapter(fresh.config, tensors, fresh.record)


@pytest.fixture(scope="session")
def vlm(base_model: Checkpoint, model_params: ModelParams, warm_adapter: Adapter) -> Vlm:
    """The embedded model with the warm adapter on it. Tests that train take one of their own."""
    from adapt_infinity.model.checkpoint import load_vlm

    return load_vlm(base_model, model_params, warm_adapter)


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source's folder with six pictures of noise, p0.png … p5.png."""
    folder = tmp_path_factory.mktemp("source")
    draw = np.random.default_rng(0)
    for number in range(6):
        pixels = draw.integers(0, 256, (36, 36, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"p{number}.png")
    return folder


@pytest.fixture(scope="session")
def pictures(root: Path) -> Pictures:
    return Pictures({"toy": root}, max_pixels=10_000)


def llava(
    source_id: str, *turns: tuple[str, str], image: str | list[str] | None = None, task: str = "talk"
) -> dict[str, Any]:
    """A raw record in LLaVA's format; each turn is a question and its answer."""
    spoken = [{"from": who, "value": text} for turn in turns for who, text in zip(("human", "gpt"), turn, strict=True)]
    return {"id": source_id, "task": task, "conversations": spoken, **({} if image is None else {"image": image})}


@pytest.fixture(scope="session")
def mixed_records() -> list[dict[str, Any]]:
    """Text only, one picture, several pictures, several turns, other scripts: all in one pool."""
    return [
        llava("text", ("What is two plus two?", "Four."), task="language"),
        llava("one", ("<image>\nWhat is this?", "Noise in many colours."), image="p0.png", task="caption"),
        llava("two", ("<image><image>Which is darker?", "The first."), image=["p1.png", "p2.png"], task="compare"),
        llava(
            "three", ("<image> <image> <image> All alike?", "no"), image=["p3.png", "p4.png", "p5.png"], task="compare"
        ),
        llava("talk", ("<image>\nA dog?", "no"), ("A cat?", "No, noise."), ("Sure?", "yes"), image="p1.png"),
        llava("zh", ("<image>\n这是什么颜色？", "很多颜色"), image="p2.png", task="zh"),
        llava("cs", ("Řekni něco česky 🙂", "Dobrý den, příteli!"), task="cs"),
        llava("long", ("<image>\n" + "Look closely. " * 12, "word " * 25), image="p4.png", task="caption"),
    ]


@pytest.fixture(scope="session")
def toy_source(mixed_records: list[dict[str, Any]]) -> Source:
    graders = {
        "language": "exact",
        "caption": "caption",
        "compare": "exact",
        "talk": "exact",
        "zh": "exact",
        "cs": "exact",
    }
    return Source("toy", "llava", mixed_records, graders)


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """A Ray cluster on this machine, with several workers whatever its cores."""
    import ray

    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # of its workers: this machine may not be found by its own name
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def write_json(tmp_path: Path) -> Callable[[str, Any], Path]:
    def write(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        return path

    return write
