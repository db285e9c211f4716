"""Stored logits: the model's logits on samples when it had just been trained on them (dark experience replay, Buzzega
et al. 2020, arXiv:2004.07211).

The `top` largest logits of every answer token are stored by sample_id; the samples themselves stay in the pool. Logits
of at most `memory` samples are stored, an equal part from each round so far, without the samples that have left the
pool.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from adapt_infinity.data.sample import IGNORED_LABEL, Sample
from adapt_infinity.training.context import StepCallbacks, TrainingContext, answer_loss, draw
from adapt_infinity.training.method_state import MethodState
from adapt_infinity.training.schedule import Step


@dataclass(frozen=True)
class StoredLogits:
    """Logits of some samples, whose ids ascend. The answer tokens of sample n are rows starts[n] to starts[n + 1]."""

    ids: Int[Tensor, " samples"]
    rounds: Int[Tensor, " samples"]  # in which the samples were trained on
    starts: Int[Tensor, " samples_and_one"]
    words: Int[Tensor, "tokens top"]  # the vocabulary entries with the largest logits
    values: Float[Tensor, "tokens top"]  # these logits

    def of_sample(self, sample_id: int) -> tuple[Int[Tensor, "tokens top"], Float[Tensor, "tokens top"]]:
        """Vocabulary entries and their logits at each answer token; `ValueError` for a sample that is not stored."""
        place = int(torch.searchsorted(self.ids, sample_id))
        if place == len(self.ids) or int(self.ids[place]) != sample_id:
            raise ValueError(f"no logits are stored of sample {sample_id}")
        tokens = slice(int(self.starts[place]), int(self.starts[place + 1]))
        return self.words[tokens].long(), self.values[tokens]

    def select(self, ids: Int[np.ndarray, " selected"]) -> "StoredLogits":
        """The stored logits of these samples, by ascending id."""
        pieces = [self.of_sample(int(sample_id)) for sample_id in ids]
        places = torch.searchsorted(self.ids, torch.as_tensor(ids))
        return _join_pieces(torch.as_tensor(ids), self.rounds[places], pieces)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of a method state that `from_state` reads."""
        return {name: getattr(self, name) for name in ("ids", "rounds", "starts", "words", "values")}


def from_state(state: MethodState) -> StoredLogits | None:
    """The stored logits of a state; None for an empty state."""
    return StoredLogits(**state.tensors) if state.tensors else None


def update(context: TrainingContext, stored: StoredLogits | None, memory: int, top: int) -> StoredLogits:
    """The logits to store after a round: of each earlier round a smaller draw, and of a draw of this round's samples.

    `ValueError` when earlier rounds stored another number of logits per token.
    """
    rounds = set() if stored is None else set(stored.rounds.tolist())
    per_round = memory // (len(rounds) + 1)
    seed = context.params.seed
    parts = []
    if stored is not None:
        for number in sorted(rounds):
            ids = stored.ids[stored.rounds == number].numpy()
            parts.append(stored.select(draw(ids, per_round, seed, context.round, number)))
    parts.append(_compute(context, context.draw_samples(per_round), top))
    widths = {part.words.shape[1] for part in parts if len(part.ids)}
    if len(widths) > 1:
        raise ValueError(
            f"earlier rounds stored {min(widths)} or {max(widths)} logits per token: keep the method's `top`"
        )
    return _merge(parts)


def replay_loss(
    context: TrainingContext, stored: StoredLogits, ids: Sequence[int] | Int[np.ndarray, " n"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Two losses over the answer tokens of stored samples, both with their graph: the mean squared distance between the
    present and the stored logits (over tokens and stored vocabulary entries), and the mean cross-entropy.

    `ValueError` for a sample without stored logits, and for one whose answer has another number of tokens now.
    """
    squared, loss = (torch.zeros((), device=context.vlm.device) for _ in range(2))
    tokens = 0
    for rows, batch in context.batches(context.memory.samples(ids)):
        logits, labels = context.forward(batch)
        for row, row_logits, row_labels in zip(rows, logits, labels, strict=True):
            words, values = stored.of_sample(row.sample_id)
            is_answer = row_labels != IGNORED_LABEL
            if int(is_answer.sum()) != len(words):
                raise ValueError(
                    f"sample {row.sample_id} has {int(is_answer.sum())} answer tokens, and logits are stored of "
                    f"{len(words)}"
                )
            now = row_logits[is_answer].gather(1, words.to(row_logits.device))
            squared = squared + (now - values.to(row_logits)).square().mean(dim=1).sum()
            tokens += len(words)
        loss = loss + answer_loss(logits, labels)
    return squared / tokens, loss / tokens


def draw_stored(
    context: TrainingContext, stored: StoredLogits, size: int, step: Step, which: int = 0
) -> Int[np.ndarray, " drawn"]:
    """The ids of at most `size` stored samples that are still in the pool, drawn by seed, round and step.

    `which` numbers the draws of one step. `ValueError` when no stored sample is in the pool.
    """
    present = np.intersect1d(stored.ids.numpy(), context.memory.ids)
    if len(present) == 0:
        raise ValueError(
            f"none of the {len(stored.ids)} samples whose logits are stored is still in the pool: raise "
            "pruning.pool_size or the method's memory"
        )
    context.memory.samples(present)  # loads all of them together, once
    return draw(present, size, context.params.seed, context.round, step.number, which)


def replay_stored(
    context: TrainingContext,
    state: MethodState,
    memory: int,
    top: int,
    term_of: Callable[[StoredLogits, Step], Tensor],
) -> StepCallbacks:
    """The callbacks of a method that adds the term `term_of(stored, step)` and stores logits for the next round.

    In the first round nothing is stored yet, and there is no term.
    """
    stored = from_state(state)

    def on_gradient(step: Step) -> float:
        assert stored is not None
        term = term_of(stored, step)
        term.backward()
        return term.item()

    def at_end() -> MethodState:
        return MethodState(state.method, update(context, stored, memory, top).tensors())

    return StepCallbacks(on_gradient=on_gradient, at_end=at_end) if stored else StepCallbacks(at_end=at_end)


def _compute(context: TrainingContext, samples: Sequence[Sample], top: int) -> StoredLogits:
    found: dict[int, tuple[Tensor, Tensor]] = {}
    with torch.no_grad():
        for rows, batch in context.batches(samples):
            logits, labels = context.forward(batch)
            largest = logits.topk(min(top, logits.shape[-1]), dim=-1)
            for place, row in enumerate(rows):
                is_answer = labels[place] != IGNORED_LABEL
                found[row.sample_id] = (largest.indices[place][is_answer].cpu(), largest.values[place][is_answer].cpu())
    ids = torch.tensor(sorted(found), dtype=torch.int64)
    return _join_pieces(ids, torch.full_like(ids, context.round), [found[int(sample_id)] for sample_id in ids])


def _join_pieces(ids: Tensor, rounds: Tensor, pieces: Sequence[tuple[Tensor, Tensor]]) -> StoredLogits:
    """Stored logits from one pair of words and values per sample."""
    lengths = torch.tensor([0, *[len(words) for words, _ in pieces]])
    if not pieces:
        return StoredLogits(ids, rounds, lengths, torch.empty(0, 0, dtype=torch.int32), torch.empty(0, 0))
    words = torch.cat([words for words, _ in pieces]).to(torch.int32)
    return StoredLogits(ids, rounds, lengths.cumsum(0), words, torch.cat([values for _, values in pieces]))


def _merge(parts: Sequence[StoredLogits]) -> StoredLogits:
    parts = [part for part in parts if len(part.ids)]
    ids, order = torch.cat([part.ids for part in parts]).sort()
    rounds = torch.cat([part.rounds for part in parts])[order]
    part_of = {int(sample_id): part for part in parts for sample_id in part.ids}
    return _join_pieces(ids, rounds, [part_of[int(sample_id)].of_sample(int(sample_id)) for sample_id in ids])
