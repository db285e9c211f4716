"""The shipped checkpoint: loads like any other, knows the primitives, and lacks what the arrivals teach."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from adapt_infinity.embedded.pretraining import agrees, measure
from adapt_infinity.embedded.sample_specs import Item, realise
from adapt_infinity.embedded.stream import ARRIVALS, BASE, dataset_module, owned

FOLDER, ALIGNED = (Path(str(files("adapt_infinity.embedded") / name)) for name in ("checkpoint", "aligned"))


@pytest.fixture(scope="module")
def model() -> Any:
    """As anybody would load it."""
    return AutoModelForImageTextToText.from_pretrained(FOLDER, local_files_only=True)


@pytest.fixture(scope="module")
def processor() -> Any:
    """As anybody would load it."""
    return AutoProcessor.from_pretrained(FOLDER, local_files_only=True)


def drawn(names: tuple[str, ...], each: int) -> list[Item]:
    """Fresh single-turn items of every skill that the datasets own."""
    rng = np.random.default_rng(12345)
    items = [
        realise(skill, dataset_module(name).draw(skill, "test", rng), int(rng.integers(3)), rng)
        for name in names
        for skill in owned(name)
        for _ in range(each)
    ]
    return [Item(item.skill, item.pixels, item.turns[:1]) for item in items]


@pytest.mark.parametrize("folder", [FOLDER, ALIGNED])
def test_small_and_plain(folder: Path) -> None:
    """At most 5 MB on disk, float32 in memory, no code of its own."""
    loaded = AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True)
    assert (folder / "model.safetensors").stat().st_size <= 5e6
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
    assert "auto_map" not in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert all(weight.isfinite().all() for weight in loaded.parameters())


def test_the_aligned_base_sees_but_was_taught_less() -> None:
    """It knows the primitives, and nothing at all of what arrives."""
    aligned: Any = AutoModelForImageTextToText.from_pretrained(ALIGNED, local_files_only=True)
    reader: Any = AutoProcessor.from_pretrained(ALIGNED, local_files_only=True)
    assert float(np.mean(list(measure(aligned, reader, drawn((BASE,), 20)).values()))) >= 0.85
    for name in ARRIVALS:
        assert float(np.mean(list(measure(aligned, reader, drawn((name,), 10)).values()))) <= 0.05


def test_knows_the_primitives(model: Any, processor: Any) -> None:
    """Well above chance on each, and nearly always right on most."""
    scores = measure(model, processor, drawn((BASE,), 20))
    assert float(np.mean(list(scores.values()))) >= 0.85
    assert min(scores.values()) >= 0.4


def test_lacks_what_arrives(model: Any, processor: Any) -> None:
    """No arrival's skills are answered well without training, by exact words."""
    for name in ARRIVALS:
        assert float(np.mean(list(measure(model, processor, drawn((name,), 10)).values()))) <= 0.3


def test_answers_through_the_processor(model: Any, processor: Any) -> None:
    """The ordinary way from messages to words, with pictures, without, and from a photo of another size."""
    items = [item for item in drawn((BASE,), 3) if item.skill in ("shape", "count", "exists")]
    right = []
    for item in items:
        images = [{"type": "image", "image": Image.fromarray(pixels)} for pixels in item.pixels]
        messages = [{"role": "user", "content": [*images, {"type": "text", "text": item.turns[0][0]}]}]
        inputs = processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        out = model.generate(**inputs, max_new_tokens=8, do_sample=False)
        said = processor.tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        right.append(agrees(said, item.turns[0][1]))
    assert np.mean(right) >= 0.75
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (61, 200, 3), dtype=np.uint8))
    messages = [
        {"role": "user", "content": [{"type": "image", "image": photo}, {"type": "text", "text": "Co je na fotce? 🎉"}]}
    ]
    inputs = processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    assert inputs["pixel_values"].shape == (1, 3, 36, 36)
    assert model(**inputs).logits.isfinite().all()
