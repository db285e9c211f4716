"""Pre-training: encoding equals the processor's, the loss is on answers only, one seed gives one set of weights."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adapt_infinity.data.sample import IGNORED_LABEL
from adapt_infinity.embedded.encoding import Encoder, collate, item_turns, pixel_values
from adapt_infinity.embedded.language_pretraining import answer_loss
from adapt_infinity.embedded.model import build_model, build_processor, train_tokenizer
from adapt_infinity.embedded.pretraining import agrees, answers, pretrain
from adapt_infinity.embedded.recipe import EmbeddedModelParams
from adapt_infinity.embedded.sample_specs import Item, render_item
from adapt_infinity.embedded.stream import SKILLS, EmbeddedStreamParams, dataset_module

SHORT = EmbeddedModelParams(
    vocabulary=400, stage_1_steps=2, stage_2_steps=2, stage_3_steps=2, stage_4_steps=2, batch=4, turns=2, warmup=1
)
SMALL = EmbeddedStreamParams(train_size=40, design_size=1, test_size=1)


@pytest.fixture(scope="module")
def processor() -> Any:
    """A processor with a small tokenizer."""
    return build_processor(train_tokenizer(["red circle", "圆形", "What is it?"], 400))


def items() -> list[Item]:
    """One item per skill: with one, two or no pictures, one or two turns, and two scripts."""
    rng = np.random.default_rng(0)
    return [
        render_item(skill, dataset_module(row.dataset).draw(skill, "train", rng), 0, rng)
        for skill, row in SKILLS.items()
    ]


@pytest.mark.parametrize("item", items(), ids=lambda item: item.skill)
def test_encoding_equals_the_processor(processor: Any, item: Item) -> None:
    """Token ids and answer mask are equal; pixel values differ at most by a rounding of float32."""
    messages = []
    for number, (question, answer) in enumerate(item.turns):
        images = [{"type": "image", "image": Image.fromarray(p)} for p in item.pixels] if number == 0 else []
        messages.append({"role": "user", "content": [*images, {"type": "text", "text": question}]})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    slow = processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True, return_tensors="pt"
    )
    fast = collate([item_turns(item)], list(item.pixels), Encoder(processor.tokenizer))
    assert torch.equal(fast.input_ids, slow["input_ids"])
    assert torch.equal(fast.labels[0] != IGNORED_LABEL, torch.as_tensor(slow["assistant_masks"])[0].bool())
    if fast.pixel_values is None:
        assert "pixel_values" not in slow
    else:
        torch.testing.assert_close(fast.pixel_values, slow["pixel_values"], rtol=0, atol=2e-7)


def test_answer_loss_equals_the_loss_of_transformers(processor: Any) -> None:
    """Computing logits at answer positions only does not change the loss."""
    model = build_model(processor.tokenizer, 0)
    examples = items()
    batch = collate(
        [item_turns(item) for item in examples],
        [pixels for item in examples for pixels in item.pixels],
        Encoder(processor.tokenizer),
    )
    expected = model(**vars(batch)).loss
    assert answer_loss(model, batch).item() == pytest.approx(expected.item(), rel=1e-5)


def test_same_seed_same_weights() -> None:
    """All four stages are deterministic; another seed gives other weights."""
    one, _, figures = pretrain(SHORT, SMALL)
    again, _, _ = pretrain(SHORT, SMALL)
    other, _, _ = pretrain(dataclasses.replace(SHORT, seed=1), SMALL)
    weights, same, others = one.state_dict(), again.state_dict(), other.state_dict()
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert not torch.equal(weights["lm_head.weight"], others["lm_head.weight"])
    assert figures.keys() >= SKILLS.keys()


def test_batch_size_changes_no_answer(processor: Any) -> None:
    """An item has the same answer alone and, with left padding, in a batch."""
    model = build_model(processor.tokenizer, 0)
    encoder = Encoder(processor.tokenizer)
    examples = items()[:12]
    together = answers(model, encoder, examples, batch=12, longest=4)
    assert together == [answers(model, encoder, [item], longest=4)[0] for item in examples]


def test_pixel_values_by_hand() -> None:
    """Black is -1 and white is 1."""
    black_and_white = np.stack([np.zeros((36, 36, 3), np.uint8), np.full((36, 36, 3), 255, np.uint8)])
    assert pixel_values(black_and_white).unique().tolist() == pytest.approx([-1.0, 1.0])


def test_agrees_by_hand() -> None:
    """Case and punctuation do not count; missing words do."""
    assert agrees("Red circle.", "red circle") == 1.0
    assert agrees("red", "red circle") == 0.0
    assert agrees("红色", "红色") == 1.0


@pytest.mark.parametrize(("key", "value"), [("batch", 0), ("stage_2_steps", -1), ("stage_2_lr", -0.1), ("echo", 1.5)])
def test_bad_parameters_are_named(key: str, value: float) -> None:
    """The message names the YAML key and the value."""
    with pytest.raises(ValueError, match=rf"embedded_model\.{key} .*{value}"):
        EmbeddedModelParams(**{key: value})  # type: ignore[arg-type]
