"""Conversations as batches for the embedded model: the same ids as its processor gives, in much less time."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from adapt_infinity.data.sample import IGNORED_LABEL
from adapt_infinity.embedded.model import ASSISTANT, END, IMAGE, IMAGE_TOKENS, MEAN, PAD, STD, USER
from adapt_infinity.embedded.sample_specs import Item


@dataclass(frozen=True)
class Batch:
    """A batch for the model, padded on the right. Labels are `IGNORED_LABEL` outside answers."""

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
    """Token ids of texts and conversations; keeps the ids of texts that were encoded before."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Look up the ids of the special tokens."""
        self.tokenizer = tokenizer
        self.cache: dict[str, list[int]] = {}
        self.pad, self.end, self.user, self.assistant, self.image = (
            int(tokenizer.vocab[token]) for token in (PAD, END, USER, ASSISTANT, IMAGE)
        )

    def text(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens."""
        if text not in self.cache:
            if len(self.cache) > 200_000:
                self.cache.clear()
            self.cache[text] = self.tokenizer.encode(text, add_special_tokens=False)
        return self.cache[text]

    def conversation(self, turns: list[Turn]) -> tuple[list[int], list[bool]]:
        """Token ids of a conversation, as the chat template writes it, and whether each is part of an answer."""
        ids: list[int] = []
        answers: list[bool] = []
        for turn in turns:
            question = [
                self.user,
                *[self.image] * (IMAGE_TOKENS * turn.pictures),
                *self.text(turn.question),
                self.assistant,
            ]
            answer = [*self.text(turn.answer), self.end]
            ids += question + answer
            answers += [False] * len(question) + [True] * len(answer)
        return ids, answers


def pixel_values(pixels: UInt8[np.ndarray, "pictures 36 36 3"]) -> Float[Tensor, "pictures 3 36 36"]:
    """Normalised pixels in [-1, 1], equal to the processor's up to the last bit of a float32."""
    scaled = pixels.astype(np.float32) * np.float32(1 / 255)
    normal = (scaled - np.float32(MEAN)) / np.float32(STD)
    return torch.from_numpy(np.ascontiguousarray(normal.transpose(0, 3, 1, 2)))


def collate(conversations: list[list[Turn]], pictures: list[UInt8[np.ndarray, "36 36 3"]], encoder: Encoder) -> Batch:
    """Put conversations into one batch; `pictures` holds those of all conversations, in order."""
    encoded = [encoder.conversation(turns) for turns in conversations]
    shape = (len(encoded), max(len(ids) for ids, _ in encoded))
    input_ids = np.full(shape, encoder.pad)
    attention = np.zeros(shape, dtype=np.int64)
    labels = np.full(shape, IGNORED_LABEL)
    for row, (ids, answers) in enumerate(encoded):
        input_ids[row, : len(ids)] = ids
        attention[row, : len(ids)] = 1
        labels[row, : len(ids)] = np.where(answers, ids, IGNORED_LABEL)
    return Batch(
        torch.from_numpy(input_ids),
        torch.from_numpy(attention),
        torch.from_numpy(labels),
        pixel_values(np.stack(pictures)) if pictures else None,
    )


def item_turns(item: Item) -> list[Turn]:
    """The turns of an item; its pictures precede the first question."""
    return [
        Turn(question, answer, len(item.pixels) if number == 0 else 0)
        for number, (question, answer) in enumerate(item.turns)
    ]
