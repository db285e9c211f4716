"""The shipped checkpoints load like any other, answer the primitives, and do not answer the arrivals' skills."""

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
from adapt_infinity.embedded.sample_specs import Item, render_item
from adapt_infinity.embedded.stream import ARRIVALS, BASE, dataset_module, own_skills

FOLDER, ALIGNED = (Path(str(files("adapt_infinity.embedded") / name)) for name in ("checkpoint", "aligned"))


@pytest.fixture(scope="module")
def model() -> Any:
    """The checkpoint, loaded with transformers only."""
    return AutoModelForImageTextToText.from_pretrained(FOLDER, local_files_only=True)


@pytest.fixture(scope="module")
def processor() -> Any:
    """The processor, loaded with transformers only."""
    return AutoProcessor.from_pretrained(FOLDER, local_files_only=True)


def draw_items(names: tuple[str, ...], each: int) -> list[Item]:
    """New single-turn items, `each` per skill that the datasets introduce."""
    rng = np.random.default_rng(12345)
    items = [
        render_item(skill, dataset_module(name).draw(skill, "test", rng), int(rng.integers(3)), rng)
        for name in names
        for skill in own_skills(name)
        for _ in range(each)
    ]
    return [Item(item.skill, item.pixels, item.turns[:1]) for item in items]


@pytest.mark.parametrize("folder", [FOLDER, ALIGNED])
def test_checkpoint_is_small_and_needs_no_code(folder: Path) -> None:
    """The weights take at most 5 MB on disk and are float32 in memory; the checkpoint has no code of its own."""
    loaded = AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True)
    assert (folder / "model.safetensors").stat().st_size <= 5e6
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
    assert "auto_map" not in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert all(weight.isfinite().all() for weight in loaded.parameters())


def test_aligned_checkpoint_answers_primitives_only() -> None:
    """The checkpoint after stage 2 answers the primitives and almost no question of the arrivals."""
    aligned: Any = AutoModelForImageTextToText.from_pretrained(ALIGNED, local_files_only=True)
    aligned_processor: Any = AutoProcessor.from_pretrained(ALIGNED, local_files_only=True)
    assert float(np.mean(list(measure(aligned, aligned_processor, draw_items((BASE,), 20)).values()))) >= 0.85
    for name in ARRIVALS:
        assert float(np.mean(list(measure(aligned, aligned_processor, draw_items((name,), 10)).values()))) <= 0.05


def test_checkpoint_answers_primitives(model: Any, processor: Any) -> None:
    """The mean accuracy is at least 85 %, and every skill is above chance."""
    scores = measure(model, processor, draw_items((BASE,), 20))
    assert float(np.mean(list(scores.values()))) >= 0.85
    assert min(scores.values()) >= 0.4


def test_checkpoint_does_not_answer_the_arrivals(model: Any, processor: Any) -> None:
    """Without training, at most 30 % of the answers to an arrival's questions are correct."""
    for name in ARRIVALS:
        assert float(np.mean(list(measure(model, processor, draw_items((name,), 10)).values()))) <= 0.3


def test_answers_through_the_processor(model: Any, processor: Any) -> None:
    """The usual calls of transformers work: messages to text, and a picture of another size."""
    items = [item for item in draw_items((BASE,), 3) if item.skill in ("shape", "count", "exists")]
    correct = []
    for item in items:
        images = [{"type": "image", "image": Image.fromarray(pixels)} for pixels in item.pixels]
        messages = [{"role": "user", "content": [*images, {"type": "text", "text": item.turns[0][0]}]}]
        inputs = processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        out = model.generate(**inputs, max_new_tokens=8, do_sample=False)
        text = processor.tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        correct.append(agrees(text, item.turns[0][1]))
    assert np.mean(correct) >= 0.75
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (61, 200, 3), dtype=np.uint8))
    messages = [
        {"role": "user", "content": [{"type": "image", "image": photo}, {"type": "text", "text": "Co je na fotce? 🎉"}]}
    ]
    inputs = processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    assert inputs["pixel_values"].shape == (1, 3, 36, 36)
    assert model(**inputs).logits.isfinite().all()
