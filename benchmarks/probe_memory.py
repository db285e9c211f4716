"""What the probe's per-sample gradients add to the memory of a batch, counted allocation by allocation.

torch's profiler reports every tensor that the CPU allocator hands out and takes back (`profile_memory`); the running
sum's maximum is the peak above what was there before. Scratch of the matrix libraries is not seen, nor is what NumPy
allocates. Peaks of one batch, the probe's largest:

- *plain*: forward and backward of the same loss by autograd, for the probed weights only, on the same folded model:
  what any gradient of that layer costs, with the activations that it keeps.
- *training*: forward and backward for all adapter weights.
- *probe*: `read_batch`. What it takes beyond *plain* is its extra memory.
- *gradients and sketch*: inside the backward pass, from a map's arriving gradient on: the map's [batch, out, in], its
  norm and its sketch, plus the features that are added up meanwhile. This part cannot hide behind a peak elsewhere.

The bound (PERFORMANCE, goal 8) is 2 · batch · (largest weight) · 4 B + batch · dim · 4 B.
"""

from collections.abc import Callable, Sequence
from unittest.mock import patch

import numpy as np
import torch
from probe_setup import DIM, LAYER, SPEC, TOKENS, trainable
from torch.profiler import ProfilerActivity, profile, record_function

from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import Sample
from adapt_infinity.features import capture
from adapt_infinity.features.batch_reading import read_batch
from adapt_infinity.features.batching import padded_length
from adapt_infinity.model.checkpoint import Batch, Vlm, answer_logits
from adapt_infinity.model.prompts import collate, encode, pad_token
from adapt_infinity.training.context import answer_loss

VISIT = "visit"


def extra_memory(folded: Vlm, whole: Vlm, samples: list[Sample], pictures: Pictures) -> dict[str, int | float]:
    """Bytes of each peak, and the ratios to the bound. `folded` is the probe's own model, `whole` the one to train."""
    batch = largest_batch(whole, samples, pictures)
    bare = np.full(len(batch.labels), np.nan, np.float32)
    probed = list(capture.probed_weights(folded, (LAYER,)).values())
    trained = [weight for name, weight in whole.model.named_parameters() if "lora_" in name]
    read_batch(folded, batch, bare, SPEC)  # the sketch's plan is made and kept: it belongs to the resting memory
    peaks = {
        "plain": peak(lambda: differentiate(folded, batch, probed))[0],
        "training": peak(lambda: differentiate(whole, batch, trained))[0],
    }
    with patch.object(capture, "_on_backward", _marked(capture._on_backward)):
        peaks["probe"], visits = peak(lambda: read_batch(folded, batch, bare, SPEC))
    features = len(bare) * DIM * 4
    peaks["gradients and sketch"] = visits + features
    bound = 2 * len(bare) * max(weight.numel() for weight in probed) * 4 + features
    extra = max(0, peaks["probe"] - peaks["plain"])
    return {
        "memory: rows of the batch": len(bare),
        "memory: bound, MB": bound / 2**20,
        **{f"memory: {name}, MB": value / 2**20 for name, value in peaks.items()},
        "memory: (probe - plain) / bound": extra / bound,
        "memory: gradients and sketch / bound": peaks["gradients and sketch"] / bound,
    }


def largest_batch(vlm: Vlm, samples: list[Sample], pictures: Pictures) -> Batch:
    """The batch of the probe that has most rows: the memory of gradients grows with rows, not with tokens."""
    rows = [encode(vlm, sample, pictures) for sample in samples]
    lengths = [padded_length(len(row)) for row in rows]
    length = max(set(lengths), key=lambda length: min(lengths.count(length), TOKENS // length))
    chosen = [row for row, own in zip(rows, lengths, strict=True) if own == length][: TOKENS // length]
    return collate(chosen, pad_token(vlm), length=length)


def differentiate(vlm: Vlm, batch: Batch, weights: Sequence[torch.nn.Parameter]) -> None:
    """Forward and backward, as training does it."""
    with trainable(weights):
        logits, labels = answer_logits(vlm, batch)
        torch.autograd.grad(answer_loss(logits, labels), weights, allow_unused=True)


def peak(work: Callable[[], object]) -> tuple[int, int]:
    """Bytes that the work holds at most above what was there before, and the same inside any one `VISIT`."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    assert seen.profiler is not None
    assert seen.profiler.kineto_results is not None
    events = sorted(seen.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    visits = [(event.start_ns(), event.end_ns()) for event in events if event.name() == VISIT]
    changes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    times, held = np.array([time for time, _ in changes]), np.cumsum([change for _, change in changes])
    rises = [_rise(times, held, start, end) for start, end in visits]
    return int(held.max()), max(rises, default=0)


def _rise(times: np.ndarray, held: np.ndarray, start: int, end: int) -> int:
    """The most that is held between two moments, above what was held at the first."""
    first, last = np.searchsorted(times, [start, end])
    before = held[first - 1] if first else 0
    return int(max(held[first:last].max() - before, 0)) if last > first else 0


def _marked(contract: Callable[..., None]) -> Callable[..., None]:
    def marked(*args: object) -> None:
        with record_function(VISIT):
            contract(*args)

    return marked
