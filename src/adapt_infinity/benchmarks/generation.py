"""Greedy generation of answers to encoded questions, in batches of similar length."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from adapt_infinity.model.checkpoint import Vlm
from adapt_infinity.model.prompts import Encoded, batches, collate, end_tokens, pad_token


@dataclass(frozen=True)
class GeneratedAnswer:
    """The text of an answer, and the number of tokens of question and answer together."""

    text: str
    tokens: int


def generate_answers(
    vlm: Vlm, encoded: Sequence[Encoded], max_new_tokens: int, token_budget: int
) -> list[GeneratedAnswer]:
    """Greedy answers of at most `max_new_tokens` tokens, in the order of `encoded`.

    A batch has at most `token_budget` tokens, answers and padding included. Padding is on the left; on the right the
    model would continue the padding.
    """
    lengths = [len(row) + max_new_tokens for row in encoded]
    answers = [GeneratedAnswer("", 0)] * len(encoded)
    ends = torch.tensor(end_tokens(vlm))
    for places in batches(lengths, token_budget):
        batch = collate([encoded[place] for place in places], pad_token(vlm), side="left")
        with torch.inference_mode():
            generated = vlm.model.generate(
                **batch.inputs(vlm.device),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                pad_token_id=pad_token(vlm),
            )
        new_tokens = generated[:, batch.input_ids.shape[1] :].cpu()
        texts = vlm.processor.tokenizer.batch_decode(new_tokens, skip_special_tokens=True)
        counts = _tokens_up_to_end(torch.isin(new_tokens, ends)).tolist()
        for place, text, count in zip(places, texts, counts, strict=True):
            answers[place] = GeneratedAnswer(text.strip(), len(encoded[place]) + count)
    return answers


def _tokens_up_to_end(is_end: Bool[Tensor, "batch time"]) -> Int[Tensor, " batch"]:
    """The number of tokens up to the first end token, which is counted; all tokens if there is no end token."""
    return (is_end.cumsum(dim=1) - is_end.long() == 0).sum(dim=1)
