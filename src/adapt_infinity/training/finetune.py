"""LoRA fine-tuning on answer tokens, continuing the previous round's adapter (METHOD section 6).

A step sees `batch_size` samples, cut into micro-batches of at most `token_budget` tokens; its loss is the mean over all
answer tokens of the step, so that cutting changes nothing. Samples of like length are grouped inside random windows.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from adapt_infinity import parquet
from adapt_infinity.model import (
    FIRST,
    IGNORED,
    SECOND,
    Adapter,
    Batch,
    Checkpoint,
    ModelParams,
    Vlm,
    answer_logits,
    detach,
    load_vlm,
    new_adapter,
)
from adapt_infinity.pictures import Pictures
from adapt_infinity.pool import Pool
from adapt_infinity.prompts import Encoded, batches, collate, encode, pad_token
from adapt_infinity.sample import Sample, samples_of

GROUPED = 8  # batches whose samples are sorted by length together


@dataclass(frozen=True, kw_only=True)
class TrainingParams:
    """params:training."""

    learning_rate: float
    projector: str  # regular expression: modules that learn at the projector's rate
    projector_learning_rate: float
    epochs: int
    batch_size: int  # samples in an optimiser step
    token_budget: int  # tokens in a forward pass, padding included
    warm_up: float  # share of the steps in which the rate rises
    weight_decay: float
    max_norm: float  # gradients are clipped to this length
    cache_mb: int  # memory for tokens and pixels that are kept from one epoch to the next
    seed: int

    def __post_init__(self) -> None:
        for name in ("learning_rate", "projector_learning_rate", "max_norm"):
            if getattr(self, name) <= 0:
                raise ValueError(f"training.{name} must be greater than 0, got {getattr(self, name)}")
        for name in ("epochs", "batch_size", "token_budget"):
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.warm_up < 1:
            raise ValueError(f"training.warm_up must lie in 0..1, got {self.warm_up}")


@dataclass(frozen=True, kw_only=True)
class WarmUpParams:
    """params:warm_up. A fresh LoRA has B = 0, and then every gradient of A is exactly 0: genesis trains it a little."""

    samples: int
    epochs: int

    def __post_init__(self) -> None:
        for name in ("samples", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"warm_up.{name} must be at least 1, got {getattr(self, name)}")


def train_adapter(
    pool: Pool,
    subset: pd.DataFrame,
    pictures: Pictures,
    base_model: Checkpoint,
    previous_adapter: Adapter,
    model_params: ModelParams,
    params: TrainingParams,
    round: int,
) -> tuple[Adapter, pd.DataFrame]:
    """The previous adapter, trained on the selected rows of the pool; and the log (step, samples, loss, rate)."""
    chosen = subset.loc[subset["selected"], "sample_id"]
    absent = chosen[~chosen.isin(pool.index["sample_id"])]
    if len(absent):
        raise ValueError(f"the subset names {len(absent)} samples that are not in the pool: {absent.tolist()[:5]}")
    rows = pool.rows(np.sort(chosen.to_numpy()))
    vlm = load_vlm(base_model, model_params, previous_adapter)
    samples = samples_of(rows)
    log, moments = finetune(vlm, samples, pictures, params, params.epochs)
    rounds = [*previous_adapter.record["rounds"], round]
    steps = previous_adapter.record["steps"] + len(log)
    record = {"policy": "continue", "rounds": rounds, "steps": steps, "moment_steps": len(log)}
    return detach(vlm, record, moments), log


def warm_up_adapter(
    first_arrivals: ds.Dataset,
    pictures: Pictures,
    base_model: Checkpoint,
    model_params: ModelParams,
    params: TrainingParams,
    warm_up: WarmUpParams,
) -> tuple[Adapter, pd.DataFrame]:
    """Round 0's adapter: fresh, then trained on a small random part of the first arrivals (as LESS does, and [P])."""
    draw = np.random.default_rng([params.seed, 0])
    places = np.sort(draw.permutation(first_arrivals.count_rows())[: warm_up.samples])
    rows = parquet.take(first_arrivals, places).to_pandas()
    fresh = new_adapter(load_vlm(base_model, model_params), model_params, params.seed)
    vlm = load_vlm(base_model, model_params, fresh)
    samples = samples_of(rows)
    log, moments = finetune(vlm, samples, pictures, params, warm_up.epochs)
    record = {"policy": "warm_up", "rounds": [0], "steps": len(log), "moment_steps": len(log)}
    return detach(vlm, record, moments), log


def finetune(
    vlm: Vlm, samples: Sequence[Sample], pictures: Pictures, params: TrainingParams, epochs: int
) -> tuple[pd.DataFrame, dict[str, torch.Tensor]]:
    """Train the adapter that is on `vlm`, in place. Returns the log and the optimiser's last moments, by weight.

    Log: step, epoch, samples, loss (nats a token), learning_rate.
    """
    optimiser = _optimiser(vlm, params)
    plan = [
        (epoch, places)
        for epoch in range(epochs)
        for places in epoch_batches([rough_length(sample) for sample in samples], params.batch_size, params.seed, epoch)
    ]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: cosine(step, len(plan), params.warm_up))
    log = []
    read = _remembering(vlm, samples, pictures, params.cache_mb if epochs > 1 else 0)
    vlm.model.train()
    for step, (epoch, places) in enumerate(tqdm(plan, "training", unit="step", disable=None)):
        loss = _step(vlm, [read(place) for place in places], params)
        rate = schedule.get_last_lr()[0]
        optimiser.step()
        schedule.step()
        optimiser.zero_grad(set_to_none=True)
        log.append({"step": step, "epoch": epoch, "samples": len(places), "loss": loss, "learning_rate": rate})
    vlm.model.eval()
    return pd.DataFrame(log), _moments(vlm, optimiser)


def epoch_batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Places of an epoch's samples, each once: random windows, sorted by length inside, batches in random order."""
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


def _remembering(vlm: Vlm, samples: Sequence[Sample], pictures: Pictures, cache_mb: int) -> Callable[[int], Encoded]:
    """Encode a sample by its place, and keep what was encoded while it fits into `cache_mb`."""
    kept: dict[int, Encoded] = {}
    left = cache_mb * 2**20

    def read(place: int) -> Encoded:
        nonlocal left
        if place in kept:
            return kept[place]
        encoded = encode(vlm, samples[place], pictures)
        size = sum(tensor.nbytes for tensor in (encoded.input_ids, encoded.answers, *encoded.extras.values()))
        if size <= left:
            kept[place] = encoded
            left -= size
        return encoded

    return read


def _step(vlm: Vlm, rows: list[Encoded], params: TrainingParams) -> float:
    """Gradients of one optimiser step, clipped. Returns the mean loss over its answer tokens."""
    answers = sum(int(row.answers.sum()) for row in rows)
    total = 0.0
    for places in batches([len(row) for row in rows], params.token_budget):
        loss = _answer_loss(vlm, collate([rows[place] for place in places], pad_token(vlm))) / answers
        loss.backward()
        total += loss.item()
    torch.nn.utils.clip_grad_norm_([p for p in vlm.model.parameters() if p.requires_grad], params.max_norm)
    if not np.isfinite(total):
        raise ValueError(f"the loss is {total}: training.learning_rate {params.learning_rate:g} may be too high")
    return total


def _answer_loss(vlm: Vlm, batch: Batch) -> torch.Tensor:
    """Summed cross-entropy of the batch's answer tokens."""
    logits, labels = answer_logits(vlm, batch)
    return cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")


def _optimiser(vlm: Vlm, params: TrainingParams) -> torch.optim.AdamW:
    """AdamW over the adapter's weights, the projector's at a rate of their own."""
    slow: list[torch.nn.Parameter] = []
    fast: list[torch.nn.Parameter] = []
    for name, parameter in vlm.model.named_parameters():
        if "lora_" in name:
            parameter.requires_grad_(True)
            (slow if re.search(params.projector, name) else fast).append(parameter)
    groups = [
        {"params": fast, "lr": params.learning_rate},
        {"params": slow, "lr": params.projector_learning_rate},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], weight_decay=params.weight_decay)


def _moments(vlm: Vlm, optimiser: torch.optim.AdamW) -> dict[str, torch.Tensor]:
    """Adam's moments of every weight that was trained, on the CPU."""
    return {
        f"{name}.{moment}": optimiser.state[weight][moment].detach().to("cpu", copy=True)
        for name, weight in vlm.model.named_parameters()
        for moment in (FIRST, SECOND)
        if weight in optimiser.state
    }
