"""Greedy generation of answers to encoded questions, in batches of like length."""

from collections.abc import Sequence

import torch
from tqdm import tqdm

from adapt_infinity.model import Vlm
from adapt_infinity.prompts import Encoded, batches, collate, pad_token


def speak(vlm: Vlm, encoded: Sequence[Encoded], max_new_tokens: int, token_budget: int) -> list[str]:
    """Greedy answers, in the order of `encoded`. Padding is on the left, or generation would continue the padding."""
    lengths = [len(row) + max_new_tokens for row in encoded]
    answers = [""] * len(encoded)
    with tqdm(total=len(encoded), desc="answering", unit="item", disable=None) as bar, torch.inference_mode():
        for places in batches(lengths, token_budget):
            batch = collate([encoded[place] for place in places], pad_token(vlm), side="left")
            spoken = vlm.model.generate(
                **batch.inputs(vlm.device),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                pad_token_id=pad_token(vlm),
            )
            new = spoken[:, batch.input_ids.shape[1] :]
            texts = vlm.processor.tokenizer.batch_decode(new, skip_special_tokens=True)
            for place, text in zip(places, texts, strict=True):
                answers[place] = text.strip()
            bar.update(len(places))
    return answers
