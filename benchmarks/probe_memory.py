"""The extra memory of the probe's per-sample gradients, from torch's record of all allocations.

torch's profiler (`profile_memory`) reports every allocation and release of the CPU allocator. The maximum of the
running sum is the peak above the memory in use before. Buffers of the matrix libraries and of NumPy are not included.
Peaks are measured for the probe's batch with the most rows:

- *plain*: forward and backward with autograd for the probed weights only, on the same model with merged adapter; the
  minimum for any gradient of this layer.
- *training*: forward and backward for all adapter weights.
- *probe*: `read_batch`. Its extra memory is the difference to *plain*.
- *gradients and sketch*: the part of the backward pass that computes per-sample gradients [batch, out, in], norms and
  sketches of one linear layer, plus the features. This part is measured alone, because the peak may be elsewhere.

The bound is 2 · batch · (largest weight) · 4 B + batch · dim · 4 B.
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

REGION = "gradients and sketch"  # name of the profiled region


def extra_memory(merged: Vlm, whole: Vlm, samples: list[Sample], pictures: Pictures) -> dict[str, int | float]:
    """Peaks in MiB, and ratios to the bound. `merged` is the probe's model, `whole` has a trainable adapter."""
    batch = largest_batch(whole, samples, pictures)
    bare = np.full(len(batch.labels), np.nan, np.float32)
    probed = list(capture.probed_weights(merged, (LAYER,)).values())
    trained = [weight for name, weight in whole.model.named_parameters() if "lora_" in name]
    read_batch(merged, batch, bare, SPEC)  # makes and caches the sketch's plan, which does not count
    peaks = {
        "plain": peak(lambda: differentiate(merged, batch, probed))[0],
        "training": peak(lambda: differentiate(whole, batch, trained))[0],
    }
    with patch.object(capture, "_on_backward", _recorded(capture._on_backward)):
        peaks["probe"], region = peak(lambda: read_batch(merged, batch, bare, SPEC))
    features = len(bare) * DIM * 4
    peaks["gradients and sketch"] = region + features
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
    """The probe's batch with the most rows, because the memory of gradients grows with rows, not with tokens."""
    rows = [encode(vlm, sample, pictures) for sample in samples]
    lengths = [padded_length(len(row)) for row in rows]
    length = max(set(lengths), key=lambda length: min(lengths.count(length), TOKENS // length))
    chosen = [row for row, padded in zip(rows, lengths, strict=True) if padded == length][: TOKENS // length]
    return collate(chosen, pad_token(vlm), length=length)


def differentiate(vlm: Vlm, batch: Batch, weights: Sequence[torch.nn.Parameter]) -> None:
    """Forward and backward pass as in training."""
    with trainable(weights):
        logits, labels = answer_logits(vlm, batch)
        torch.autograd.grad(answer_loss(logits, labels), weights, allow_unused=True)


def peak(work: Callable[[], object]) -> tuple[int, int]:
    """The peak of allocated bytes during `work`, and the largest increase within one region named `REGION`."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    assert profiled.profiler is not None
    assert profiled.profiler.kineto_results is not None
    events = sorted(profiled.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    regions = [(event.start_ns(), event.end_ns()) for event in events if event.name() == REGION]
    changes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    times, held = np.array([time for time, _ in changes]), np.cumsum([change for _, change in changes])
    rises = [_rise(times, held, start, end) for start, end in regions]
    return int(held.max()), max(rises, default=0)


def _rise(times: np.ndarray, held: np.ndarray, start: int, end: int) -> int:
    """The largest increase of allocated bytes between two times, relative to the first."""
    first, last = np.searchsorted(times, [start, end])
    before = held[first - 1] if first else 0
    return int(max(held[first:last].max() - before, 0)) if last > first else 0


def _recorded(contract: Callable[..., None]) -> Callable[..., None]:
    def recorded(*args: object) -> None:
        with record_function(REGION):
            contract(*args)

    return recorded
