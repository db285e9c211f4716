"""The schedule of a training: which samples are in which step, and the learning rate of each step.

Samples of similar length are grouped inside random windows: batches have little padding, and the order stays random.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adapt_infinity.data.sample import Sample

WINDOW = 8  # batches whose samples are sorted by length together


@dataclass(frozen=True)
class Step:
    """One step of the optimiser; `places` are the positions of its samples in the list of training samples."""

    number: int
    epoch: int
    places: tuple[int, ...]


def plan_steps(samples: Sequence[Sample], epochs: int, batch_size: int, seed: int) -> list[Step]:
    """All steps of a training, in order."""
    lengths = [approximate_length(sample) for sample in samples]
    steps = [(epoch, places) for epoch in range(epochs) for places in epoch_batches(lengths, batch_size, seed, epoch)]
    return [Step(number, epoch, tuple(places)) for number, (epoch, places) in enumerate(steps)]


def epoch_batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of one epoch, as positions of samples; every sample is in one batch.

    The samples are shuffled, sorted by length inside windows of `WINDOW` batches, and the batches shuffled again.
    """
    rng = np.random.default_rng([seed, epoch + 1])
    order = rng.permutation(len(lengths))
    in_order = []
    for first in range(0, len(order), WINDOW * batch_size):
        window = sorted(order[first : first + WINDOW * batch_size].tolist(), key=lambda place: (lengths[place], place))
        in_order += [window[start : start + batch_size] for start in range(0, len(window), batch_size)]
    return [in_order[number] for number in rng.permutation(len(in_order))]


def approximate_length(sample: Sample) -> int:
    """A cheap estimate in place of the number of tokens, good enough for grouping: characters, and 500 per image."""
    return sum(len(turn.text) for turn in sample.turns) + 500 * len(sample.images)


def cosine_schedule(step: int, steps: int, warm_up: float) -> float:
    """The factor of the learning rate, in 0..1: it rises linearly over the first `warm_up` share of the steps, then
    falls to 0 along half a cosine.
    """
    rising = int(warm_up * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + float(np.cos(np.pi * (step - rising) / max(1, steps - rising))))


def split_held_out(count: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the samples to train on and of those to hold out, each ascending; at least one is trained on."""
    order = np.random.default_rng([seed, 0]).permutation(count)
    held_out = min(int(share * count), count - 1)
    return np.sort(order[held_out:]), np.sort(order[:held_out])
