"""Conversations as the model's inputs, without the processor's cost and with its result."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from adapt_infinity.embedded.model import ASSISTANT, END, IMAGE, IMAGE_TOKENS, MEAN, PAD, SPREAD, USER
from adapt_infinity.embedded.sample_specs import Item

IGNORED = -100


@dataclass(frozen=True)
class Batch:
    """Inputs of the model, padded on the right; labels are ignored outside answers."""

    input_ids: Int[Tensor, "batch time"]
    attention_mask: Int[Tensor, "batch time"]
    labels: Int[Tensor, "batch time"]
    pixel_values: Float[Tensor, "pictures 3 36 36"] | None


@dataclass(frozen=True)
class Turn:
    """A question, the number of pictures before it, and the answer."""

    question: str
    answer: str
    pictures: int = 0


Conversation = tuple[list[Turn], list[UInt8[np.ndarray, "36 36 3"]]]  # pictures of all turns in order


class Encoder:
    """Text to ids, each text only once."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Reads the special tokens' ids off the tokenizer."""
        self.tokenizer = tokenizer
        self.known: dict[str, list[int]] = {}
        self.pad, self.end, self.user, self.assistant, self.image = (
            int(tokenizer.vocab[token]) for token in (PAD, END, USER, ASSISTANT, IMAGE)
        )

    def text(self, text: str) -> list[int]:
        """Ids of a text without special tokens."""
        if text not in self.known:
            if len(self.known) > 200_000:
                self.known.clear()
            self.known[text] = self.tokenizer.encode(text, add_special_tokens=False)
        return self.known[text]

    def conversation(self, turns: list[Turn]) -> tuple[list[int], list[bool]]:
        """Ids of a conversation as the chat template writes it, and which of them are answer tokens."""
        ids: list[int] = []
        answers: list[bool] = []
        for turn in turns:
            asked = [
                self.user,
                *[self.image] * (IMAGE_TOKENS * turn.pictures),
                *self.text(turn.question),
                self.assistant,
            ]
            answered = [*self.text(turn.answer), self.end]
            ids += asked + answered
            answers += [False] * len(asked) + [True] * len(answered)
        return ids, answers


def pixel_values(pixels: UInt8[np.ndarray, "pictures 36 36 3"]) -> Float[Tensor, "pictures 3 36 36"]:
    """What the processor makes of pictures of the model's own size, but for the last bit of a float32."""
    scaled = pixels.astype(np.float32) * np.float32(1 / 255)
    normal = (scaled - np.float32(MEAN)) / np.float32(SPREAD)
    return torch.from_numpy(np.ascontiguousarray(normal.transpose(0, 3, 1, 2)))


def collate(conversations: list[list[Turn]], pictures: list[UInt8[np.ndarray, "36 36 3"]], encoder: Encoder) -> Batch:
    """Conversations as one batch; `pictures` of all of them in order."""
    encoded = [encoder.conversation(turns) for turns in conversations]
    shape = (len(encoded), max(len(ids) for ids, _ in encoded))
    input_ids = np.full(shape, encoder.pad)
    attention = np.zeros(shape, dtype=np.int64)
    labels = np.full(shape, IGNORED)
    for row, (ids, answers) in enumerate(encoded):
        input_ids[row, : len(ids)] = ids
        attention[row, : len(ids)] = 1
        labels[row, : len(ids)] = np.where(answers, ids, IGNORED)
    return Batch(
        torch.from_numpy(input_ids),
        torch.from_numpy(attention),
        torch.from_numpy(labels),
        pixel_values(np.stack(pictures)) if pictures else None,
    )


def item_turns(item: Item) -> list[Turn]:
    """An item's turns, the pictures before the first question."""
    return [
        Turn(question, answer, len(item.pixels) if number == 0 else 0)
        for number, (question, answer) in enumerate(item.turns)
    ]
