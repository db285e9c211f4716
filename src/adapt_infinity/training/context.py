"""What a method can see of a training, and where in a step it can act. Every method is written against these two."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import IGNORED_LABEL, Sample, samples_of
from adapt_infinity.model.checkpoint import Batch, Vlm, answer_logits
from adapt_infinity.model.prompts import Encoded, batches, collate, encode, pad_token
from adapt_infinity.pool.pool import Pool
from adapt_infinity.training.method_state import MethodState
from adapt_infinity.training.parameter_vector import Weights
from adapt_infinity.training.params import TrainingParams
from adapt_infinity.training.schedule import Step

Logits = Float[Tensor, "batch answers words"]
Labels = Int[Tensor, "batch answers"]
Loss = Callable[[Logits, Labels], Tensor]  # summed over answer tokens
LOOK_BACK = 4096  # remembered samples whose words a round holds


@dataclass(frozen=True)
class ReplayMemory:
    """The samples of earlier rounds that are still in the pool: what a method may look back on."""

    pool: Pool
    round: int
    known: dict[int, Sample] = field(default_factory=dict, compare=False, repr=False)  # that have been read

    @cached_property
    def ids(self) -> Int[np.ndarray, " kept"]:
        """By ascending sample_id."""
        index = self.pool.index
        return index.loc[index["round"] < self.round, "sample_id"].to_numpy()

    @cached_property
    def sources(self) -> np.ndarray:
        """The dataset of each."""
        index = self.pool.index
        return index.loc[index["round"] < self.round, "source"].to_numpy()

    @cached_property
    def arrived(self) -> str:
        """The dataset that arrives this round; `ValueError` when nothing of it is in the pool."""
        index = self.pool.index
        found = index.loc[index["round"] == self.round, "source"].unique()
        if len(found) != 1:
            raise ValueError(f"round {self.round} needs arrivals of one dataset in the pool, got {sorted(found)}")
        return str(found[0])

    def samples(self, ids: Sequence[int] | Int[np.ndarray, " n"]) -> list[Sample]:
        """These samples, in this order; each is read once, and those that are new together: a read scans the pool."""
        wanted = [int(sample_id) for sample_id in ids]
        new = sorted(set(wanted) - self.known.keys())
        if new:
            self.known.update(zip(new, samples_of(self.pool.rows(new)), strict=True))
        return [self.known[sample_id] for sample_id in wanted]


@dataclass
class TokenCounter:
    """Tokens that a method has had read beside those that are trained on, padding included."""

    read: int = 0  # forward only
    learnt: int = 0  # forward and backward


@dataclass
class EncodedSampleCache:
    """Encoded samples that are kept while they fit: a method meets the same ones again and again."""

    left: int  # bytes
    kept: dict[int, Encoded] = field(default_factory=dict)  # by sample_id

    def take(self, sample: Sample, read: Callable[[], Encoded]) -> Encoded:
        """The sample as it was encoded, now or before."""
        if sample.sample_id in self.kept:
            return self.kept[sample.sample_id]
        encoded = read()
        size = sum(tensor.nbytes for tensor in (encoded.input_ids, encoded.answers, *encoded.extras.values()))
        if size <= self.left:
            self.kept[sample.sample_id] = encoded
            self.left -= size
        return encoded


@dataclass(frozen=True)
class TrainingContext:
    """One training: the model with what is trained on it, its samples, and what may be looked back on."""

    vlm: Vlm
    weights: Weights
    samples: Sequence[Sample]
    pictures: Pictures
    memory: ReplayMemory
    params: TrainingParams
    round: int
    meter: TokenCounter = field(default_factory=TokenCounter)

    def batches(self, samples: Sequence[Sample]) -> Iterator[tuple[list[Encoded], Batch]]:
        """Some samples in micro-batches of at most `token_budget` tokens, always the same for the same samples."""
        rows = [self.encoded(sample) for sample in samples]
        for places in batches([len(row) for row in rows], self.params.token_budget):
            gathered = [rows[place] for place in places]
            yield gathered, self.collate(gathered)

    @cached_property
    def shelf(self) -> EncodedSampleCache:
        """Of `training.cache_mb`."""
        return EncodedSampleCache(self.params.cache_mb * 2**20)

    def encoded(self, sample: Sample) -> Encoded:
        """A sample that is read more than once."""
        return self.shelf.take(sample, lambda: encode(self.vlm, sample, self.pictures))

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """As they are trained on."""
        return collate(rows, pad_token(self.vlm))

    def read(self, batch: Batch) -> tuple[Logits, Labels]:
        """Logits and labels at answer positions, from a pass that is charged to the method."""
        if torch.is_grad_enabled():
            self.meter.learnt += batch.input_ids.numel()
        else:
            self.meter.read += batch.input_ids.numel()
        return answer_logits(self.vlm, batch)

    def gradient_of(self, samples: Sequence[Sample], loss: Loss | None = None) -> Float[Tensor, " weights"]:
        """Of the mean of `loss` (cross-entropy if none) over these samples' answer tokens.

        What is in `weights.gradient` stays as it is.
        """
        kept = self.weights.gradient.clone()
        self.weights.gradient.zero_()
        read = list(self.batches(samples))
        answers = sum(int(row.answers.sum()) for rows, _ in read for row in rows)
        for _, batch in read:
            ((loss or answer_loss)(*self.read(batch)) / answers).backward()
        found = self.weights.gradient.clone()
        self.weights.gradient.copy_(kept)
        return found

    def some(self, count: int) -> list[Sample]:
        """At most so many of the samples that are trained on, drawn by seed and round."""
        order = np.random.default_rng([self.params.seed, self.round]).permutation(len(self.samples))
        return [self.samples[place] for place in np.sort(order[:count])]

    @cached_property
    def looked_back_on(self) -> Int[np.ndarray, " drawn"]:
        """What of the memory this round's steps draw from: at most `LOOK_BACK`, read together."""
        ids = draw(self.memory.ids, LOOK_BACK, self.params.seed, self.round)
        self.memory.samples(ids)
        return ids

    def remembered(self, size: int, step: int) -> list[Sample]:
        """A step's draw from the memory: at most `size` samples."""
        return self.memory.samples(draw(self.looked_back_on, size, self.params.seed, self.round, step))


def answer_loss(logits: Logits, labels: Labels) -> Float[Tensor, ""]:
    """Cross-entropy summed over answer tokens."""
    return cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED_LABEL, reduction="sum")


def _no_loss(batch: Batch, logits: Logits, labels: Labels) -> Tensor | None:
    return None


def _no_change(step: Step) -> float:
    return 0.0


@dataclass(frozen=True, kw_only=True)
class StepCallbacks:
    """What a method does in each step. What it leaves out is plain fine-tuning.

    on_batch      a further loss of a micro-batch, summed over answer tokens as cross-entropy is
    on_gradient   changes `weights.gradient` once the step's losses are in it, before it is clipped; returns the value
                  of the term that it stands for
    on_step       after the optimiser has moved the weights
    at_end        what the next round needs; may set the weights that the round deploys
    moving        tensors that change from step to step, in place: checkpoints keep them
    """

    on_batch: Callable[[Batch, Logits, Labels], Tensor | None] = _no_loss
    on_gradient: Callable[[Step], float] = _no_change
    on_step: Callable[[Step], float] = _no_change
    at_end: Callable[[], MethodState] = MethodState
    moving: dict[str, Tensor] = field(default_factory=dict)


def draw(ids: Int[np.ndarray, " n"], size: int, *key: int) -> Int[np.ndarray, " drawn"]:
    """At most `size` of them without repetition, by ascending id; the same for the same key, whatever came before."""
    order = np.random.default_rng(list(key)).permutation(len(ids))[:size]
    return np.sort(ids[order])
