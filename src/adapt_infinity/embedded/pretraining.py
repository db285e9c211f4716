"""Pre-training of the embedded model: all four stages, and a measurement of what it can do afterwards.

Stage 1 is in `vision_pretraining.py`, stages 2 to 4 are in `language_pretraining.py`.
"""

import string
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from adapt_infinity.embedded.encoding import Encoder, item_turns, pixel_values
from adapt_infinity.embedded.language_pretraining import (
    train_on_descriptions,
    train_on_primitives,
    train_on_weak_skills,
)
from adapt_infinity.embedded.model import build_model, build_processor, round_weights, train_tokenizer
from adapt_infinity.embedded.recipe import EmbeddedModelParams
from adapt_infinity.embedded.sample_specs import Item
from adapt_infinity.embedded.stream import ARRIVALS, EmbeddedStreamParams, make_stream
from adapt_infinity.embedded.vision_pretraining import pretrain_vision


@torch.no_grad()
def answers(
    model: LlavaForConditionalGeneration, encoder: Encoder, items: list[Item], batch: int = 100, longest: int = 64
) -> list[str]:
    """Greedy answers to the last question of each item, given its earlier turns; up to `longest` tokens each."""
    model.eval()
    generate: Any = model.generate  # its type differs between releases of transformers
    texts: list[str] = [""] * len(items)
    order = sorted(range(len(items)), key=lambda n: (items[n].skill, len(items[n].turns)))
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        prompts = [encoder.conversation(item_turns(items[n])) for n in part]
        without_answer = []
        for ids, is_answer in prompts:
            end = len(ids)
            while is_answer[end - 1]:
                end -= 1
            without_answer.append(ids[:end])
        width = max(map(len, without_answer))
        input_ids = torch.tensor([[encoder.pad] * (width - len(ids)) + ids for ids in without_answer])
        attention = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in without_answer])
        pictures = [pixels for n in part for pixels in items[n].pixels]
        inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention}
        if pictures:
            inputs["pixel_values"] = pixel_values(np.stack(pictures))
        out = generate(**inputs, max_new_tokens=longest, do_sample=False)
        for n, text in zip(part, encoder.tokenizer.batch_decode(out[:, width:], skip_special_tokens=True), strict=True):
            texts[n] = text
    return texts


def agrees(answer: str, reference: str) -> float:
    """1 if both texts have the same words, up to case and punctuation, else 0."""
    strip = str.maketrans("", "", string.punctuation)
    return float(answer.casefold().translate(strip).split() == reference.casefold().translate(strip).split())


def measure(
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    items: list[Item],
    graders: dict[str, Callable[[str, str], float]] | None = None,
) -> dict[str, float]:
    """Mean score per skill; `graders` maps a skill to its grading function, and other skills are graded by `agrees`."""
    graders = graders or {}
    scores: dict[str, list[float]] = {}
    for item, text in zip(items, answers(model, Encoder(processor.tokenizer), items), strict=True):
        scores.setdefault(item.skill, []).append(graders.get(item.skill, agrees)(text, item.turns[-1][1]))
    return {skill: float(np.mean(values)) for skill, values in scores.items()}


def pretrain(
    params: EmbeddedModelParams, stream: EmbeddedStreamParams
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor, dict[str, float]]:
    """Pre-train from scratch.

    Returns the model, its processor, and figures: the accuracy of stage 1's heads, and the share of correct answers per
    skill on the `design` split.
    """
    splits = dict(make_stream(stream))
    texts = [
        text for made in splits.values() for sample in made["train"] for turn in sample.item.turns for text in turn
    ]
    tokenizer = train_tokenizer(texts, params.vocabulary)
    processor = build_processor(tokenizer)
    model = build_model(tokenizer, params.seed)
    figures = pretrain_vision(model, params)
    for train in (train_on_primitives, train_on_descriptions):
        for _ in train(model, Encoder(tokenizer), params):
            pass
    round_weights(model)  # stage 4 can then also start from a saved checkpoint, with the same result
    for _ in train_on_weak_skills(model, Encoder(tokenizer), params):
        pass
    round_weights(model)
    items = [sample.item for name in ("primitives", *ARRIVALS) for sample in splits[name]["design"]]
    return model, processor, figures | measure(model, processor, items)
