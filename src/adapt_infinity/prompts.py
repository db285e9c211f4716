"""Sample → model inputs, with labels on answer tokens only.

The words go through the checkpoint's own chat template and processor. Which tokens are answers comes from the
template's `{% generation %}` marks, so that any family's format is handled and none is known here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from adapt_infinity.model import IGNORED, Batch, Checkpoint, ModelParams, Vlm, load_vlm
from adapt_infinity.pictures import Pictures
from adapt_infinity.sample import IMAGE, Sample, samples_of


@dataclass(frozen=True)
class Encoded:
    """One conversation as tokens; `answers` marks the tokens that the model is to say."""

    sample_id: int
    input_ids: Tensor  # int64 [time]
    answers: Tensor  # bool [time]
    extras: dict[str, Tensor]  # what the processor made of the pictures

    def __len__(self) -> int:
        return len(self.input_ids)


def encode(vlm: Vlm, sample: Sample, pictures: Pictures) -> Encoded:
    """The whole conversation; `ValueError` when it has no answer token or more than `model.max_tokens` tokens."""
    encoded = with_ends(_apply_template(vlm, messages(sample, pictures), sample.sample_id), end_tokens(vlm))
    if not encoded.answers.any():
        raise ValueError(
            "no answer token: the conversation has no answer, or the checkpoint's chat template does not mark answers "
            "with {% generation %} … {% endgeneration %}"
        )
    return _bounded(encoded, vlm.max_tokens)


def with_ends(encoded: Encoded, ends: Sequence[int]) -> Encoded:
    """The same conversation with its end tokens among the answers: a model that never learns to stop talks on.

    Templates differ. Some mark the end token as part of the answer; some put it right behind the marks, and it is taken
    in; some (LLaVA-1.5's) write none, and then the last answer gets `ends[0]` appended.
    """
    ended = torch.isin(encoded.input_ids, torch.tensor(ends))
    answers = encoded.answers.clone()
    answers[1:] |= ended[1:] & encoded.answers[:-1]
    places = answers.nonzero().flatten()
    if len(places) == 0 or ended[places[-1]]:
        return replace(encoded, answers=answers)
    input_ids = torch.cat([encoded.input_ids, torch.tensor(ends[:1])])
    return replace(encoded, input_ids=input_ids, answers=torch.cat([answers, torch.tensor([True])]))


def end_tokens(vlm: Vlm) -> list[int]:
    """The tokens at which generation stops, the tokenizer's own first."""
    configured = vlm.base.generation_config.eos_token_id
    listed = configured if isinstance(configured, list) else [configured]
    own = vlm.processor.tokenizer.eos_token_id
    known = [token for token in (own, *listed) if token is not None]
    if not known:
        raise ValueError("the checkpoint names no end token (eos_token_id), so answers could not be told to stop")
    return list(dict.fromkeys(known))


def encode_question(vlm: Vlm, sample: Sample, pictures: Pictures) -> Encoded:
    """The conversation up to its last answer, which is left for the model to give."""
    asked = messages(sample, pictures)[:-1]
    return _bounded(_apply_template(vlm, asked, sample.sample_id, add_generation_prompt=True), vlm.max_tokens)


def collate(rows: Sequence[Encoded], pad_token: int, side: str = "right") -> Batch:
    """A padded batch. Training and probing pad on the right, generation on the left."""
    longest = max(len(row) for row in rows)
    shape = (len(rows), longest)
    input_ids = torch.full(shape, pad_token)
    attention_mask = torch.zeros(shape, dtype=torch.int64)
    labels = torch.full(shape, IGNORED)
    for place, row in enumerate(rows):
        span = slice(0, len(row)) if side == "right" else slice(longest - len(row), longest)
        input_ids[place, span] = row.input_ids
        attention_mask[place, span] = 1
        labels[place, span] = row.input_ids.where(row.answers, IGNORED)
    names = sorted({name for row in rows for name in row.extras})
    extras = {name: torch.cat([row.extras[name] for row in rows if name in row.extras]) for name in names}
    return Batch(input_ids, attention_mask, labels, extras)


def batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Places of rows, gathered by length so that no batch, padding included, exceeds `token_budget` tokens.

    A row that is longer than the budget makes a batch of its own. Longest first: what does not fit in memory shows
    at the start. Ties break by place, so the same lengths always give the same batches.
    """
    order = sorted(range(len(lengths)), key=lambda place: (-lengths[place], place))
    gathered: list[list[int]] = []
    for place in order:
        if gathered and lengths[gathered[-1][0]] * (len(gathered[-1]) + 1) <= token_budget:
            gathered[-1].append(place)
        else:
            gathered.append([place])
    return gathered


def pad_token(vlm: Vlm) -> int:
    """The token that fills up short rows (the end token where the tokenizer has none for padding)."""
    tokenizer = vlm.processor.tokenizer
    return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)


def check_prompts(
    checked: pd.DataFrame,
    record_rejects: pd.DataFrame,
    pictures: Pictures,
    base_model: Checkpoint,
    params: ModelParams,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Arrivals that this model can read, and all rejects: those of the records plus those of the prompts.

    Every conversation is encoded once, so that what is too long or has no answer token is found at the door and not
    in the middle of a round.
    """
    vlm = load_vlm(base_model, params)
    reasons: dict[int, str] = {}
    samples = samples_of(checked.assign(sample_id=range(len(checked))))
    for place, sample in enumerate(tqdm(samples, "checking prompts", unit="row", disable=None)):
        try:
            encode(vlm, sample, pictures)
        except ValueError as error:
            reasons[place] = str(error)
    bad = checked.iloc[list(reasons)]
    rejects = pd.DataFrame(
        {
            "source": bad["source"],
            "position": -1,  # the place in the file is no longer known; the id is
            "source_id": bad["source_id"],
            "reason": list(reasons.values()),
        }
    )
    arrivals = checked.drop(index=bad.index).reset_index(drop=True)
    if arrivals.empty:
        raise ValueError(
            f"no arriving sample can be read by the model; the first reason: {next(iter(reasons.values()))}"
        )
    return arrivals, pd.concat([record_rejects, rejects], ignore_index=True)


def messages(sample: Sample, pictures: Pictures) -> list[dict[str, Any]]:
    """The conversation in the chat-template form of transformers, pictures opened and in their places."""
    waiting = iter(sample.images)
    spoken = []
    for turn in sample.turns:
        content: list[dict[str, Any]] = []
        for part, words in enumerate(turn.text.split(IMAGE)):
            if part:
                content.append({"type": "image", "image": pictures.open(sample.source, next(waiting))})
            if words.strip():
                content.append({"type": "text", "text": words.strip()})
        spoken.append({"role": turn.role, "content": content})
    return spoken


def _apply_template(
    vlm: Vlm, spoken: list[dict[str, Any]], sample_id: int, add_generation_prompt: bool = False
) -> Encoded:
    made = vlm.processor.apply_chat_template(
        spoken,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        return_assistant_tokens_mask=not add_generation_prompt,
        add_generation_prompt=add_generation_prompt,
    )
    input_ids = made["input_ids"][0]
    marks = made.get("assistant_masks")
    answers = torch.zeros_like(input_ids, dtype=torch.bool) if marks is None else torch.as_tensor(marks)[0].bool()
    known = {"input_ids", "attention_mask", "assistant_masks"}
    extras = {name: tensor for name, tensor in made.items() if name not in known}
    return Encoded(sample_id, input_ids, answers, extras)


def _bounded(encoded: Encoded, max_tokens: int) -> Encoded:
    if len(encoded) > max_tokens:
        raise ValueError(f"{len(encoded)} tokens, model.max_tokens is {max_tokens}")
    return encoded
