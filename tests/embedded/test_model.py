"""Tokenizer, chat template and fresh weights of the embedded model."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adapt_infinity.embedded.model import IMAGE, IMAGE_TOKENS, build_model, build_processor, train_tokenizer

TEXTS = ("What colour is the circle?", "red circle", "圆形是什么颜色?", "红色", "[0.03, 0.31]")


@pytest.fixture(scope="module")
def processor() -> Any:
    """A processor with a tokenizer trained on five texts."""
    return build_processor(train_tokenizer(TEXTS, 400))


def picture(width: int = 36, height: int = 36) -> Image.Image:
    """A picture of random pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    "text",
    ["Příliš žluťoučký kůň", "圆形是什么颜色?", "🎉👩‍🔬 ok", "نص", "a\tb\n\n  c", "x" * 3000, "don't [0.25]", "\x00"],
)
def test_decoding_returns_the_text(processor: Any, text: str) -> None:
    """Encoding and decoding keep every byte, in any script."""
    tokenizer = processor.tokenizer
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


@pytest.mark.parametrize(("kinds", "turns"), [((1,), 1), ((0,), 1), ((2,), 1), ((1,), 3), ((0,), 2), ((3,), 2)])
def test_template_marks_answers(processor: Any, kinds: tuple[int], turns: int) -> None:
    """The assistant mask covers exactly the answers and their end tokens, for any number of pictures and turns."""
    messages = []
    for turn in range(turns):
        images = [{"type": "image", "image": picture(80, 50)} for _ in range(kinds[0] if turn == 0 else 0)]
        messages.append({"role": "user", "content": [*images, {"type": "text", "text": f"Kde je {turn}? 颜色"}]})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": f"red {turn} ž"}]})
    encoded = processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True, return_tensors="pt"
    )
    ids, mask = encoded["input_ids"][0], torch.as_tensor(encoded["assistant_masks"])[0].bool()
    answers = processor.tokenizer.decode(ids[mask])
    assert answers == "".join(f"red {turn} ž<|end|>" for turn in range(turns))
    assert int((ids == processor.tokenizer.convert_tokens_to_ids(IMAGE)).sum()) == IMAGE_TOKENS * kinds[0]
    if kinds[0]:
        assert encoded["pixel_values"].shape == (kinds[0], 3, 36, 36)
    else:
        assert "pixel_values" not in encoded


def test_plain_text_messages(processor: Any) -> None:
    """A message's content may be a string; a generation prompt ends where the answer begins."""
    text = processor.apply_chat_template([{"role": "user", "content": "Ahoj"}], add_generation_prompt=True)
    assert text == "<|user|>Ahoj<|assistant|>"


def test_fresh_weights_depend_on_the_seed_only(processor: Any) -> None:
    """Drawing them does not change the global random state."""
    before = torch.random.get_rng_state()
    one, again, other = (build_model(processor.tokenizer, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_long_texts_and_many_pictures(processor: Any) -> None:
    """A sample may have more than 2,000 tokens and several pictures of any size."""
    model: Any = build_model(processor.tokenizer, 0)
    content = [{"type": "image", "image": picture(640, 48)} for _ in range(4)]
    messages = [{"role": "user", "content": [*content, {"type": "text", "text": "Ω → 🎉 " * 200}]}]
    encoded = processor.apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="pt")
    assert encoded["input_ids"].shape[1] > 2000
    assert model.config.text_config.max_position_embeddings >= 2048
    with torch.no_grad():
        assert model(**encoded, logits_to_keep=1).logits.isfinite().all()
