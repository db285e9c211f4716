"""The interface between training and its methods: what a method sees (`TrainingContext`), and the four points of a step
at which it can act (`StepCallbacks`).
"""

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

Logits = Float[Tensor, "batch answers vocabulary"]
Labels = Int[Tensor, "batch answers"]
Loss = Callable[[Logits, Labels], Tensor]  # summed over answer tokens
MAX_REPLAY = 4096  # samples of earlier rounds that one round reads from the pool at most


@dataclass(frozen=True)
class ReplayMemory:
    """The samples of earlier rounds that are still in the pool; a method may read them again."""

    pool: Pool
    round: int
    loaded: dict[int, Sample] = field(default_factory=dict, compare=False, repr=False)  # by sample_id

    @cached_property
    def ids(self) -> Int[np.ndarray, " remembered"]:
        """The ids of the samples, ascending."""
        index = self.pool.index
        return index.loc[index["round"] < self.round, "sample_id"].to_numpy()

    @cached_property
    def sources(self) -> np.ndarray:
        """The dataset of each sample, in the order of `ids`."""
        index = self.pool.index
        return index.loc[index["round"] < self.round, "source"].to_numpy()

    @cached_property
    def arriving_source(self) -> str:
        """The dataset that arrives in this round; `ValueError` unless the pool has samples of exactly one."""
        index = self.pool.index
        found = index.loc[index["round"] == self.round, "source"].unique()
        if len(found) != 1:
            raise ValueError(f"round {self.round} needs arrivals of one dataset in the pool, got {sorted(found)}")
        return str(found[0])

    def samples(self, ids: Sequence[int] | Int[np.ndarray, " n"]) -> list[Sample]:
        """The samples with these ids, in this order.

        Each sample is read once, and all new ones of a call together, because a read scans the pool's files.
        """
        wanted = [int(sample_id) for sample_id in ids]
        new = sorted(set(wanted) - self.loaded.keys())
        if new:
            self.loaded.update(zip(new, samples_of(self.pool.rows(new)), strict=True))
        return [self.loaded[sample_id] for sample_id in wanted]


@dataclass
class TokenCounter:
    """Tokens, padding included, of the passes that a method makes beside the training passes of the loop."""

    forward_only: int = 0
    trained: int = 0  # forward and backward


@dataclass
class EncodedSampleCache:
    """Encoded samples that stay in memory as long as they fit, because the same samples are read many times."""

    free_bytes: int
    encoded: dict[int, Encoded] = field(default_factory=dict)  # by sample_id

    def get(self, sample: Sample, encoder: Callable[[], Encoded]) -> Encoded:
        """The encoded sample, from the cache or else from `encoder`."""
        if sample.sample_id in self.encoded:
            return self.encoded[sample.sample_id]
        encoded = encoder()
        size = sum(tensor.nbytes for tensor in (encoded.input_ids, encoded.answers, *encoded.extras.values()))
        if size <= self.free_bytes:
            self.encoded[sample.sample_id] = encoded
            self.free_bytes -= size
        return encoded


@dataclass(frozen=True)
class TrainingContext:
    """One training: the model, its trained weights, the training samples, and the samples of earlier rounds."""

    vlm: Vlm
    weights: Weights
    samples: Sequence[Sample]
    pictures: Pictures
    memory: ReplayMemory
    params: TrainingParams
    tokens: TokenCounter = field(default_factory=TokenCounter)

    @property
    def round(self) -> int:
        """The number of the round; 0 for the warm-up at genesis."""
        return self.memory.round

    @cached_property
    def cache(self) -> EncodedSampleCache:
        """The cache of encoded samples, of `training.cache_mb`."""
        return EncodedSampleCache(self.params.cache_mb * 2**20)

    def encoded(self, sample: Sample) -> Encoded:
        """A sample as tokens and pixels, from the cache if it is there."""
        return self.cache.get(sample, lambda: encode(self.vlm, sample, self.pictures))

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """A padded batch of encoded samples."""
        return collate(rows, pad_token(self.vlm))

    def batches(self, samples: Sequence[Sample]) -> Iterator[tuple[list[Encoded], Batch]]:
        """The samples in micro-batches of at most `token_budget` tokens; the same samples give the same batches."""
        rows = [self.encoded(sample) for sample in samples]
        for places in batches([len(row) for row in rows], self.params.token_budget):
            batch_rows = [rows[place] for place in places]
            yield batch_rows, self.collate(batch_rows)

    def forward(self, batch: Batch) -> tuple[Logits, Labels]:
        """Logits and labels at answer positions. The tokens of the pass are counted as the method's."""
        if torch.is_grad_enabled():
            self.tokens.trained += batch.input_ids.numel()
        else:
            self.tokens.forward_only += batch.input_ids.numel()
        return answer_logits(self.vlm, batch)

    def gradient_of(self, samples: Sequence[Sample], loss: Loss | None = None) -> Float[Tensor, " weights"]:
        """The gradient of the mean of `loss` (default: cross-entropy) over the answer tokens of these samples.

        `weights.gradient` is the same after the call as before.
        """
        saved = self.weights.gradient.clone()
        self.weights.gradient.zero_()
        micro_batches = list(self.batches(samples))
        answers = sum(int(row.answers.sum()) for rows, _ in micro_batches for row in rows)
        for _, batch in micro_batches:
            ((loss or answer_loss)(*self.forward(batch)) / answers).backward()
        gradient = self.weights.gradient.clone()
        self.weights.gradient.copy_(saved)
        return gradient

    def draw_samples(self, count: int) -> list[Sample]:
        """At most `count` of the training samples, drawn by seed and round."""
        order = np.random.default_rng([self.params.seed, self.round]).permutation(len(self.samples))
        return [self.samples[place] for place in np.sort(order[:count])]

    @cached_property
    def replay_ids(self) -> Int[np.ndarray, " drawn"]:
        """The ids from which `draw_replay` draws: at most `MAX_REPLAY` of the memory, loaded together."""
        ids = draw(self.memory.ids, MAX_REPLAY, self.params.seed, self.round)
        self.memory.samples(ids)
        return ids

    def draw_replay(self, size: int, step: int) -> list[Sample]:
        """At most `size` samples of earlier rounds, drawn by seed, round and step."""
        return self.memory.samples(draw(self.replay_ids, size, self.params.seed, self.round, step))


def answer_loss(logits: Logits, labels: Labels) -> Float[Tensor, ""]:
    """Cross-entropy in nats, summed over answer tokens."""
    return cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED_LABEL, reduction="sum")


def _no_loss(batch: Batch, logits: Logits, labels: Labels) -> Tensor | None:
    return None


def _no_change(step: Step) -> float:
    return 0.0


@dataclass(frozen=True, kw_only=True)
class StepCallbacks:
    """What a method does in each step. The defaults do nothing, which is plain fine-tuning.

    on_batch      returns a further loss of a micro-batch, summed over answer tokens as cross-entropy is, or None
    on_gradient   changes `weights.gradient` when it holds the gradient of the step's losses, before it is clipped;
                  returns the value of the penalty term whose gradient it added
    on_step       is called after the optimiser has changed the weights; returns a value that is added to the term
    at_end        is called after the last step; may set the weights that the round deploys, and returns the state for
                  the next round
    checkpointed  tensors that the callbacks change in place from step to step; checkpoints save and restore them
    """

    on_batch: Callable[[Batch, Logits, Labels], Tensor | None] = _no_loss
    on_gradient: Callable[[Step], float] = _no_change
    on_step: Callable[[Step], float] = _no_change
    at_end: Callable[[], MethodState] = MethodState
    checkpointed: dict[str, Tensor] = field(default_factory=dict)


def draw(ids: Int[np.ndarray, " n"], size: int, *key: int) -> Int[np.ndarray, " drawn"]:
    """At most `size` of the ids, without repetition and in ascending order; the same key gives the same draw."""
    order = np.random.default_rng(list(key)).permutation(len(ids))[:size]
    return np.sort(ids[order])
