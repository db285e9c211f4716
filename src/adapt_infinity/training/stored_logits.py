"""Remembered logits: what the model said about samples when it had just learned them (dark experience replay, Buzzega
et al. 2020, arXiv:2004.07211).

Kept are the `top` largest logits at every answer token, by sample_id; samples themselves stay in the pool. So what is
remembered is `memory` samples of all rounds so far, an equal part of each, less those that have left the pool.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from adapt_infinity.data.sample import IGNORED_LABEL, Sample
from adapt_infinity.training.context import TrainingContext, draw
from adapt_infinity.training.method_state import MethodState
from adapt_infinity.training.schedule import Step


@dataclass(frozen=True)
class StoredLogits:
    """Logits of some samples. Sample n's tokens are rows starts[n] to starts[n + 1] of the tables."""

    ids: Int[Tensor, " samples"]
    rounds: Int[Tensor, " samples"]
    starts: Int[Tensor, " samples_and_one"]
    words: Int[Tensor, "tokens top"]
    values: Float[Tensor, "tokens top"]

    def of(self, sample_id: int) -> tuple[Int[Tensor, "tokens top"], Float[Tensor, "tokens top"]]:
        """Words and their logits at each answer token; `ValueError` for a sample that is not remembered."""
        place = int(torch.searchsorted(self.ids, sample_id))
        if place == len(self.ids) or int(self.ids[place]) != sample_id:
            raise ValueError(f"no logits are kept of sample {sample_id}")
        tokens = slice(int(self.starts[place]), int(self.starts[place + 1]))
        return self.words[tokens].long(), self.values[tokens]

    def part(self, ids: Int[np.ndarray, " kept"]) -> "StoredLogits":
        """Of some of the samples, by ascending id."""
        pieces = [self.of(int(sample_id)) for sample_id in ids]
        places = torch.searchsorted(self.ids, torch.as_tensor(ids))
        return _table(torch.as_tensor(ids), self.rounds[places], pieces)

    def tensors(self) -> dict[str, Tensor]:
        """As a state keeps them."""
        return {name: getattr(self, name) for name in ("ids", "rounds", "starts", "words", "values")}


def recalled(state: MethodState) -> StoredLogits | None:
    """What a state remembers."""
    return StoredLogits(**state.tensors) if state.tensors else None


def remember(lesson: TrainingContext, before: StoredLogits | None, memory: int, top: int) -> StoredLogits:
    """Old logits thinned out to their part of `memory` samples, and those of a draw of what was just learned.

    `ValueError` when earlier rounds kept more or fewer logits a token.
    """
    rounds = set() if before is None else set(before.rounds.tolist())
    each = memory // (len(rounds) + 1)
    seed = lesson.params.seed
    kept = []
    if before is not None:
        for number in sorted(rounds):
            mine = before.ids[before.rounds == number].numpy()
            kept.append(before.part(draw(mine, each, seed, lesson.round, number)))
    kept.append(_read(lesson, lesson.some(each), top))
    widths = {part.words.shape[1] for part in kept if len(part.ids)}
    if len(widths) > 1:
        raise ValueError(f"earlier rounds kept {min(widths)} or {max(widths)} logits a token: keep the method's `top`")
    return _merged(kept)


def distance(
    lesson: TrainingContext, known: StoredLogits, ids: Sequence[int] | Int[np.ndarray, " n"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Over the answer tokens of some samples: mean squared distance of the logits to those remembered (over tokens and
    the words that are kept), and mean cross-entropy; both with their graph.

    `ValueError` for a sample without logits, and for one whose answer has another number of tokens now.
    """
    squared, loss = (torch.zeros((), device=lesson.vlm.device) for _ in range(2))
    tokens = 0
    for rows, batch in lesson.batches(lesson.memory.samples(ids)):
        logits, labels = lesson.read(batch)
        for row, said, right in zip(rows, logits, labels, strict=True):
            words, values = known.of(row.sample_id)
            here = right != IGNORED_LABEL
            if int(here.sum()) != len(words):
                raise ValueError(
                    f"sample {row.sample_id} has {int(here.sum())} answer tokens, and logits are kept of {len(words)}"
                )
            now = said[here].gather(1, words.to(said.device))
            squared = squared + (now - values.to(said)).square().mean(dim=1).sum()
            tokens += len(words)
        loss = loss + cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED_LABEL, reduction="sum")
    return squared / tokens, loss / tokens


def drawn(
    lesson: TrainingContext, known: StoredLogits, size: int, step: Step, which: int = 0
) -> Int[np.ndarray, " drawn"]:
    """A step's draw, or one of its draws, from what is remembered and still in the pool; `ValueError` if nothing is."""
    there = np.intersect1d(known.ids.numpy(), lesson.memory.ids)
    if len(there) == 0:
        raise ValueError(
            f"none of the {len(known.ids)} samples whose logits are kept is still in the pool: raise pruning.pool_size "
            "or the method's memory"
        )
    lesson.memory.samples(there)  # read together, once
    return draw(there, size, lesson.params.seed, lesson.round, step.number, which)


def _read(lesson: TrainingContext, samples: Sequence[Sample], top: int) -> StoredLogits:
    found: dict[int, tuple[Tensor, Tensor]] = {}
    with torch.no_grad():
        for rows, batch in lesson.batches(samples):
            logits, labels = lesson.read(batch)
            largest = logits.topk(min(top, logits.shape[-1]), dim=-1)
            for place, row in enumerate(rows):
                here = labels[place] != IGNORED_LABEL
                found[row.sample_id] = (largest.indices[place][here].cpu(), largest.values[place][here].cpu())
    ids = torch.tensor(sorted(found), dtype=torch.int64)
    return _table(ids, torch.full_like(ids, lesson.round), [found[int(sample_id)] for sample_id in ids])


def _table(ids: Tensor, rounds: Tensor, pieces: Sequence[tuple[Tensor, Tensor]]) -> StoredLogits:
    lengths = torch.tensor([0, *[len(words) for words, _ in pieces]])
    if not pieces:
        return StoredLogits(ids, rounds, lengths, torch.empty(0, 0, dtype=torch.int32), torch.empty(0, 0))
    words = torch.cat([words for words, _ in pieces]).to(torch.int32)
    return StoredLogits(ids, rounds, lengths.cumsum(0), words, torch.cat([values for _, values in pieces]))


def _merged(parts: Sequence[StoredLogits]) -> StoredLogits:
    parts = [part for part in parts if len(part.ids)]
    ids, order = torch.cat([part.ids for part in parts]).sort()
    rounds = torch.cat([part.rounds for part in parts])[order]
    owner = {int(sample_id): part for part in parts for sample_id in part.ids}
    return _table(ids, rounds, [owner[int(sample_id)].of(int(sample_id)) for sample_id in ids])
