"""Prompts: a sample becomes model inputs, with labels on answer tokens only.

The text goes through the checkpoint's own chat template and processor. The template's `{% generation %}` blocks say
which tokens are answers, so the code does not depend on the prompt format of any model family.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import IGNORED_LABEL, IMAGE, Sample, Turn
from adapt_infinity.model.checkpoint import Batch, Reader, Vlm


@dataclass(frozen=True)
class Encoded:
    """One conversation as tokens."""

    sample_id: int
    input_ids: Tensor  # int64 [time]
    answers: Tensor  # bool [time]: True for tokens of an answer
    extras: dict[str, Tensor]  # pixel_values and other outputs of the processor; empty without a picture

    def __len__(self) -> int:
        return len(self.input_ids)


def encode(vlm: Vlm | Reader, sample: Sample, pictures: Pictures) -> Encoded:
    """The whole conversation. `ValueError` when it has no answer token or more than `model.max_tokens` tokens."""
    encoded = with_end_tokens(_apply_template(vlm, chat_messages(sample, pictures), sample.sample_id), end_tokens(vlm))
    if not encoded.answers.any():
        raise ValueError(
            "no answer token: the conversation has no answer, or the checkpoint's chat template does not mark answers "
            "with {% generation %} … {% endgeneration %}"
        )
    return _require_length(encoded, vlm.max_tokens)


def with_end_tokens(encoded: Encoded, ends: Sequence[int]) -> Encoded:
    """The same conversation, whose answers include their end tokens: a model that never learns them does not stop.

    Templates differ. Some put the end token inside the generation block. Some put it right behind the block, and it is
    then added to the answer. Some (such as LLaVA-1.5's) write none, and then `ends[0]` is appended to the last answer.
    """
    is_end = torch.isin(encoded.input_ids, torch.tensor(ends))
    answers = encoded.answers.clone()
    answers[1:] |= is_end[1:] & encoded.answers[:-1]
    positions = answers.nonzero().flatten()
    if len(positions) == 0 or is_end[positions[-1]]:
        return replace(encoded, answers=answers)
    input_ids = torch.cat([encoded.input_ids, torch.tensor(ends[:1])])
    return replace(encoded, input_ids=input_ids, answers=torch.cat([answers, torch.tensor([True])]))


def end_tokens(vlm: Vlm | Reader) -> list[int]:
    """The ids of the tokens at which generation stops, the tokenizer's own first. `ValueError` when there is none."""
    configured = vlm.generation_config.eos_token_id
    listed = configured if isinstance(configured, list) else [configured]
    own = vlm.processor.tokenizer.eos_token_id
    known = [token for token in (own, *listed) if token is not None]
    if not known:
        raise ValueError("the checkpoint names no end token (eos_token_id), so generation would not stop")
    return list(dict.fromkeys(known))


def encode_question(vlm: Vlm | Reader, sample: Sample, pictures: Pictures) -> Encoded:
    """The conversation without its last answer, which the model is to generate.

    `ValueError` when it has more than `model.max_tokens` tokens.
    """
    question = chat_messages(sample, pictures)[:-1]
    encoded = _apply_template(vlm, question, sample.sample_id, add_generation_prompt=True)
    return _require_length(encoded, vlm.max_tokens)


def collate(rows: Sequence[Encoded], pad_token: int, side: str = "right", length: int = 0) -> Batch:
    """One batch of at least one row, padded to its longest row, or to `length` if that is longer.

    `side` is where the padding goes: "right" for training and the probe, "left" for generation.
    """
    longest = max(length, *(len(row) for row in rows))
    shape = (len(rows), longest)
    input_ids = torch.full(shape, pad_token)
    attention_mask = torch.zeros(shape, dtype=torch.int64)
    labels = torch.full(shape, IGNORED_LABEL)
    for index, row in enumerate(rows):
        span = slice(0, len(row)) if side == "right" else slice(longest - len(row), longest)
        input_ids[index, span] = row.input_ids
        attention_mask[index, span] = 1
        labels[index, span] = row.input_ids.where(row.answers, IGNORED_LABEL)
    names = sorted({name for row in rows for name in row.extras})
    extras = {name: torch.cat([row.extras[name] for row in rows if name in row.extras]) for name in names}
    return Batch(input_ids, attention_mask, labels, extras)


def batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Batches of row indices, of similar length, each of at most `token_budget` tokens, padding included.

    A row that is longer than the budget is a batch of its own. The longest rows come first, so that a lack of memory
    shows at the start. Ties are broken by index: the same lengths always give the same batches.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    made: list[list[int]] = []
    for index in order:
        if made and lengths[made[-1][0]] * (len(made[-1]) + 1) <= token_budget:
            made[-1].append(index)
        else:
            made.append([index])
    return made


def pad_token(vlm: Vlm) -> int:
    """The id of the token that fills up short rows; the end token where the tokenizer has no padding token."""
    tokenizer = vlm.processor.tokenizer
    return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)


class PromptCheck:
    """Checks that the model can read a sample, with `ValueError` where it cannot: at intake, before a round starts.

    The answer is the same as that of `encode`, which is slow and therefore called only where a cheap upper bound does
    not decide. A conversation has at most as many tokens as its text has bytes, plus the template's tokens, plus its
    image tokens, whose number depends only on the size of the picture. The first sample is always encoded, which shows
    whether the template marks answers at all.
    """

    def __init__(self, reader: Reader, pictures: Pictures) -> None:
        self._reader, self._pictures = reader, pictures
        self._image_token_counts: dict[tuple[int, int], int | str] = {}  # by size; an error message for a refused size
        self._template_tokens = 0  # for a pair of turns, and for the rest of the template; 0 = not known yet

    def __call__(self, sample: Sample, sizes: list[tuple[int, int]]) -> None:
        """`sizes`: width and height in pixels of each of the sample's pictures."""
        if not self._template_tokens:
            encode(self._reader, sample, self._pictures)
            self._template_tokens = max(self._count_template_tokens(1), self._count_template_tokens(2))
            return
        image_tokens = sum(self._image_tokens(size) for size in sizes)
        other_tokens = self._template_tokens * (len(sample.turns) // 2 + 1) + image_tokens
        bytes_of_text = sum(len(turn.text.encode()) for turn in sample.turns)
        if bytes_of_text + other_tokens <= self._reader.max_tokens:
            return
        text_tokens = self._reader.processor.tokenizer(
            [turn.text for turn in sample.turns], add_special_tokens=False, return_attention_mask=False
        )["input_ids"]
        if sum(map(len, text_tokens)) + other_tokens > self._reader.max_tokens:
            encode(self._reader, sample, self._pictures)

    def _count_template_tokens(self, pairs: int) -> int:
        """Tokens per pair of turns, of a conversation of `pairs` pairs whose turns are one letter each.

        4 tokens are added, because whitespace of the template and of the text may merge differently.
        """
        turns = (Turn("user", "a"), Turn("assistant", "a")) * pairs
        sample = Sample(0, "", "", "", (), turns)
        return len(_apply_template(self._reader, chat_messages(sample, self._pictures), 0)) // pairs + 4

    def _image_tokens(self, size: tuple[int, int]) -> int:
        """At most how many tokens a picture of this size takes. `ValueError` when the processor refuses the size."""
        if size not in self._image_token_counts:
            try:
                self._image_token_counts[size] = self._count_image_tokens(size)
            except ValueError as error:
                refused = f"the processor refuses pictures of {size[0]}x{size[1]} pixels: {error}"
                self._image_token_counts[size] = refused
        count = self._image_token_counts[size]
        if isinstance(count, str):
            raise ValueError(count)
        return count

    def _count_image_tokens(self, size: tuple[int, int]) -> int:
        text = [{"type": "text", "text": "a"}]
        blank = [{"type": "image", "image": Image.new("RGB", size)}]
        answer = {"role": "assistant", "content": text}
        without_image, with_image = (
            len(_apply_template(self._reader, [{"role": "user", "content": content}, answer], 0))
            for content in (text, blank + text)
        )
        return with_image - without_image + 2


def chat_messages(sample: Sample, pictures: Pictures) -> list[dict[str, Any]]:
    """The conversation as transformers' chat templates take it, with opened pictures in place of `<image>`."""
    waiting = iter(sample.images)
    messages = []
    for turn in sample.turns:
        content: list[dict[str, Any]] = []
        for number, text in enumerate(turn.text.split(IMAGE)):
            if number:
                content.append({"type": "image", "image": pictures.open(sample.source, next(waiting))})
            if text.strip():
                content.append({"type": "text", "text": text.strip()})
        messages.append({"role": turn.role, "content": content})
    return messages


def _apply_template(
    vlm: Vlm | Reader, messages: list[dict[str, Any]], sample_id: int, add_generation_prompt: bool = False
) -> Encoded:
    made = vlm.processor.apply_chat_template(
        messages,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        return_assistant_tokens_mask=not add_generation_prompt,
        add_generation_prompt=add_generation_prompt,
    )
    input_ids = made["input_ids"][0]
    mask = made.get("assistant_masks")
    answers = torch.zeros_like(input_ids, dtype=torch.bool) if mask is None else torch.as_tensor(mask)[0].bool()
    known = {"input_ids", "attention_mask", "assistant_masks"}
    extras = {name: tensor for name, tensor in made.items() if name not in known}
    return Encoded(sample_id, input_ids, answers, extras)


def _require_length(encoded: Encoded, max_tokens: int) -> Encoded:
    if len(encoded) > max_tokens:
        raise ValueError(f"{len(encoded)} tokens, model.max_tokens is {max_tokens}")
    return encoded
