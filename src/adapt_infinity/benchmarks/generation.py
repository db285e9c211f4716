"""Greedy generation of answers to encoded questions, in batches of like length."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from adapt_infinity.model.checkpoint import Vlm
from adapt_infinity.model.prompts import Encoded, batches, collate, end_tokens, pad_token


@dataclass(frozen=True)
class GeneratedAnswer:
    """An answer, and how many tokens its question and it have."""

    text: str
    tokens: int


def speak(vlm: Vlm, encoded: Sequence[Encoded], max_new_tokens: int, token_budget: int) -> list[GeneratedAnswer]:
    """Greedy answers, in the order of `encoded`. Padding is on the left, or generation would continue the padding."""
    lengths = [len(row) + max_new_tokens for row in encoded]
    answers = [GeneratedAnswer("", 0)] * len(encoded)
    ends = torch.tensor(end_tokens(vlm))
    for places in batches(lengths, token_budget):
        batch = collate([encoded[place] for place in places], pad_token(vlm), side="left")
        with torch.inference_mode():
            spoken = vlm.model.generate(
                **batch.inputs(vlm.device),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                pad_token_id=pad_token(vlm),
            )
        new = spoken[:, batch.input_ids.shape[1] :].cpu()
        texts = vlm.processor.tokenizer.batch_decode(new, skip_special_tokens=True)
        said = _length(torch.isin(new, ends)).tolist()
        for place, text, length in zip(places, texts, said, strict=True):
            answers[place] = GeneratedAnswer(text.strip(), len(encoded[place]) + length)
    return answers


def _length(ended: Bool[Tensor, "batch time"]) -> Int[Tensor, " batch"]:
    """Tokens up to the first end, which is one of them, or all."""
    return (ended.cumsum(dim=1) - ended.long() == 0).sum(dim=1)
