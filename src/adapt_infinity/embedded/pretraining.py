"""Pre-training of the embedded model: first vision (`vision_pretraining.py`), then language about what is seen and what
is described in words (`language_pretraining.py`).

What comes out is an ordinary checkpoint with a table of what it can do.
"""

import string
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from adapt_infinity.embedded.encoding import Encoder, item_turns, pixel_values
from adapt_infinity.embedded.language_pretraining import learn_to_practise, learn_to_speak, learn_to_talk
from adapt_infinity.embedded.model import build_model, build_processor, round_weights, train_tokenizer
from adapt_infinity.embedded.recipe import EmbeddedModelParams
from adapt_infinity.embedded.sample_specs import Item
from adapt_infinity.embedded.stream import ARRIVALS, EmbeddedStreamParams, make_stream
from adapt_infinity.embedded.vision_pretraining import learn_to_see


@torch.no_grad()
def answers(
    model: LlavaForConditionalGeneration, encoder: Encoder, items: list[Item], batch: int = 100, longest: int = 64
) -> list[str]:
    """Greedy answers to each item's last question, given the earlier turns."""
    model.eval()
    generate: Any = model.generate  # typed differently from one release of transformers to the next
    said: list[str] = [""] * len(items)
    order = sorted(range(len(items)), key=lambda n: (items[n].skill, len(items[n].turns)))
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        prompts = [encoder.conversation(item_turns(items[n])) for n in part]
        cut = []
        for ids, is_answer in prompts:
            end = len(ids)
            while is_answer[end - 1]:
                end -= 1
            cut.append(ids[:end])
        width = max(map(len, cut))
        input_ids = torch.tensor([[encoder.pad] * (width - len(ids)) + ids for ids in cut])
        attention = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in cut])
        pictures = [pixels for n in part for pixels in items[n].pixels]
        inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention}
        if pictures:
            inputs["pixel_values"] = pixel_values(np.stack(pictures))
        out = generate(**inputs, max_new_tokens=longest, do_sample=False)
        for n, text in zip(part, encoder.tokenizer.batch_decode(out[:, width:], skip_special_tokens=True), strict=True):
            said[n] = text
    return said


def agrees(answer: str, reference: str) -> float:
    """1 where both are the same words, whatever their case and punctuation."""
    strip = str.maketrans("", "", string.punctuation)
    return float(answer.casefold().translate(strip).split() == reference.casefold().translate(strip).split())


def measure(
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    items: list[Item],
    graders: dict[str, Callable[[str, str], float]] | None = None,
) -> dict[str, float]:
    """Mean score a skill, by the skill's grader in `graders` (skill → function) or else by `agrees`."""
    graders = graders or {}
    scores: dict[str, list[float]] = {}
    for item, said in zip(items, answers(model, Encoder(processor.tokenizer), items), strict=True):
        scores.setdefault(item.skill, []).append(graders.get(item.skill, agrees)(said, item.turns[-1][1]))
    return {skill: float(np.mean(values)) for skill, values in scores.items()}


def pretrain(
    params: EmbeddedModelParams, stream: EmbeddedStreamParams
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor, dict[str, float]]:
    """Model, processor, and figures: what the heads read off the patches, and exact answers on `design` by skill."""
    splits = dict(make_stream(stream))
    texts = [
        text for made in splits.values() for sample in made["train"] for turn in sample.item.turns for text in turn
    ]
    tokenizer = train_tokenizer(texts, params.vocabulary)
    processor = build_processor(tokenizer)
    model = build_model(tokenizer, params.seed)
    figures = learn_to_see(model, params)
    for learning in (learn_to_speak, learn_to_talk):
        for _ in learning(model, Encoder(tokenizer), params):
            pass
    round_weights(model)  # practising begins from what a checkpoint of the stages before it holds
    for _ in learn_to_practise(model, Encoder(tokenizer), params):
        pass
    round_weights(model)
    items = [sample.item for name in ("primitives", *ARRIVALS) for sample in splits[name]["design"]]
    return model, processor, figures | measure(model, processor, items)
