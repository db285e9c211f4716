"""Sample → model inputs, with labels on answer tokens only.

The words go through the checkpoint's own chat template and processor. Which tokens are answers comes from the
template's `{% generation %}` marks, so that any family's format is handled and none is known here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import IMAGE, Sample, Turn
from adapt_infinity.model.checkpoint import IGNORED, Batch, Reader, Vlm


@dataclass(frozen=True)
class Encoded:
    """One conversation as tokens; `answers` marks the tokens that the model is to say."""

    sample_id: int
    input_ids: Tensor  # int64 [time]
    answers: Tensor  # bool [time]
    extras: dict[str, Tensor]  # what the processor made of the pictures

    def __len__(self) -> int:
        return len(self.input_ids)


def encode(vlm: Vlm | Reader, sample: Sample, pictures: Pictures) -> Encoded:
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


def end_tokens(vlm: Vlm | Reader) -> list[int]:
    """The tokens at which generation stops, the tokenizer's own first."""
    configured = vlm.generation_config.eos_token_id
    listed = configured if isinstance(configured, list) else [configured]
    own = vlm.processor.tokenizer.eos_token_id
    known = [token for token in (own, *listed) if token is not None]
    if not known:
        raise ValueError("the checkpoint names no end token (eos_token_id), so answers could not be told to stop")
    return list(dict.fromkeys(known))


def encode_question(vlm: Vlm | Reader, sample: Sample, pictures: Pictures) -> Encoded:
    """The conversation up to its last answer, which is left for the model to give."""
    asked = messages(sample, pictures)[:-1]
    return _bounded(_apply_template(vlm, asked, sample.sample_id, add_generation_prompt=True), vlm.max_tokens)


def collate(rows: Sequence[Encoded], pad_token: int, side: str = "right", length: int = 0) -> Batch:
    """A batch, padded to its longest row or to `length`: on the right to train and probe, on the left to generate."""
    longest = max(length, *(len(row) for row in rows))
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
    """RowIndex of rows, gathered by length so that no batch, padding included, exceeds `token_budget` tokens.

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


class PromptCheck:
    """Whether the model can read a sample: `ValueError` where it cannot, found at the door and not in the round.

    The answer is that of `encode`, which is asked only where something cheaper is not certain already. A conversation
    has at most as many tokens as bytes, plus what its template adds, plus its pictures' places, of which there are as
    many as for any picture of the same size. The first sample is always encoded: it shows whether the template marks
    answers at all.
    """

    def __init__(self, reader: Reader, pictures: Pictures) -> None:
        self._reader, self._pictures = reader, pictures
        self._places: dict[tuple[int, int], int | str] = {}
        self._framed = 0  # tokens that the template puts around a pair of turns, and around the whole; 0: not known yet

    def __call__(self, sample: Sample, sizes: list[tuple[int, int]]) -> None:
        """`sizes`: width and height of the sample's pictures."""
        if not self._framed:
            encode(self._reader, sample, self._pictures)
            self._framed = max(self._frame(1), self._frame(2))
            return
        places = sum(self._image_places(size) for size in sizes)
        framed = self._framed * (len(sample.turns) // 2 + 1) + places
        length = sum(len(turn.text.encode()) for turn in sample.turns)
        if length + framed <= self._reader.max_tokens:
            return
        words = self._reader.processor.tokenizer(
            [turn.text for turn in sample.turns], add_special_tokens=False, return_attention_mask=False
        )["input_ids"]
        if sum(map(len, words)) + framed > self._reader.max_tokens:
            encode(self._reader, sample, self._pictures)

    def _frame(self, pairs: int) -> int:
        """Tokens of a conversation of `pairs` of turns of a letter each, and some to spare for merged spaces."""
        turns = (Turn("user", "a"), Turn("assistant", "a")) * pairs
        sample = Sample(0, "", "", "", (), turns)
        return len(_apply_template(self._reader, messages(sample, self._pictures), 0)) // pairs + 4

    def _image_places(self, size: tuple[int, int]) -> int:
        """Tokens that a picture of this size takes; `ValueError` when the processor does not take one."""
        if size not in self._places:
            try:
                self._places[size] = self._count(size)
            except ValueError as error:
                self._places[size] = f"the processor takes no picture of {size[0]}x{size[1]} pixels: {error}"
        found = self._places[size]
        if isinstance(found, str):
            raise ValueError(found)
        return found

    def _count(self, size: tuple[int, int]) -> int:
        words = [{"type": "text", "text": "a"}]
        blank = [{"type": "image", "image": Image.new("RGB", size)}]
        answer = {"role": "assistant", "content": words}
        without, shown = (
            len(_apply_template(self._reader, [{"role": "user", "content": content}, answer], 0))
            for content in (words, blank + words)
        )
        return shown - without + 2


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
    vlm: Vlm | Reader, spoken: list[dict[str, Any]], sample_id: int, add_generation_prompt: bool = False
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
