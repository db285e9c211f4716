"""Which samples are seen in which step, and at which rate.

Samples of like length are grouped inside random windows: a batch has little padding, and the order stays random.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adapt_infinity.data.sample import Sample

GROUPED = 8  # batches whose samples are sorted by length together


@dataclass(frozen=True)
class Step:
    """One step of the optimiser."""

    number: int
    epoch: int
    places: tuple[int, ...]  # of the samples


def plan(samples: Sequence[Sample], epochs: int, batch_size: int, seed: int) -> list[Step]:
    """Every step of a training, in order."""
    lengths = [rough_length(sample) for sample in samples]
    steps = [(epoch, places) for epoch in range(epochs) for places in epoch_batches(lengths, batch_size, seed, epoch)]
    return [Step(number, epoch, tuple(places)) for number, (epoch, places) in enumerate(steps)]


def epoch_batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """RowIndex of an epoch's samples, each once: random windows, sorted by length inside, batches in random order."""
    draw = np.random.default_rng([seed, epoch + 1])
    order = draw.permutation(len(lengths))
    gathered = []
    for first in range(0, len(order), GROUPED * batch_size):
        window = sorted(order[first : first + GROUPED * batch_size].tolist(), key=lambda place: (lengths[place], place))
        gathered += [window[start : start + batch_size] for start in range(0, len(window), batch_size)]
    return [gathered[place] for place in draw.permutation(len(gathered))]


def rough_length(sample: Sample) -> int:
    """A cheap stand-in for the number of tokens, good enough to group by."""
    return sum(len(turn.text) for turn in sample.turns) + 500 * len(sample.images)


def cosine(step: int, steps: int, warm_up: float) -> float:
    """The rate's factor: a linear rise over the first `warm_up` share of the steps, then half a cosine down to 0."""
    rising = int(warm_up * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + float(np.cos(np.pi * (step - rising) / max(1, steps - rising))))


def held_out(count: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Places that are trained on and places that are kept back, each in ascending order; at least one of the former."""
    order = np.random.default_rng([seed, 0]).permutation(count)
    back = min(int(share * count), count - 1)
    return np.sort(order[back:]), np.sort(order[:back])
