"""The training loop, the same for every method: AdamW on answer tokens (docs/method.md, section 6).

A step has `batch_size` samples, in micro-batches of at most `token_budget` tokens. Its loss is the mean over all answer
tokens of the step, so the result does not depend on how the step is cut into micro-batches or shared by processes. The
method acts at four points of each step (context.StepCallbacks).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from adapt_infinity.data.sample import IGNORED_LABEL, Sample
from adapt_infinity.model.checkpoint import Vlm, answer_logits
from adapt_infinity.model.lora import FIRST_MOMENT, SECOND_MOMENT
from adapt_infinity.model.prompts import Encoded, batches, encode
from adapt_infinity.training import loss_events
from adapt_infinity.training.checkpoints import Checkpoints, TrainingCheckpoint
from adapt_infinity.training.context import StepCallbacks, TokenCounter, TrainingContext, answer_loss
from adapt_infinity.training.parameter_vector import Weights
from adapt_infinity.training.params import TrainingParams
from adapt_infinity.training.process_group import Group
from adapt_infinity.training.schedule import Step, cosine_schedule, plan_steps

LOG_COLUMNS = ["step", "epoch", "samples", "loss", "learning_rate", "tokens", "extra_tokens", "term", "held_out_loss"]
SINGLE_PROCESS = Group()


@dataclass
class BestWeights:
    """The weights with the lowest held-out loss so far, for early stopping."""

    loss: float = float("inf")
    theta: Tensor = field(default_factory=lambda: torch.empty(0))
    evaluations_since: int = 0  # evaluations after the best one

    def update(self, loss: float, theta: Float[Tensor, " weights"]) -> None:
        """Take the result of another evaluation on the held-out samples into account."""
        if loss < self.loss:
            self.loss, self.theta, self.evaluations_since = loss, theta.clone(), 0
        else:
            self.evaluations_since += 1


def train(
    context: TrainingContext,
    callbacks: StepCallbacks,
    epochs: int,
    held_out: Sequence[Sample] = (),
    checkpoints: Checkpoints | None = None,
    group: Group = SINGLE_PROCESS,
) -> tuple[pd.DataFrame, dict[str, Tensor]]:
    """Train the weights of the context, in place. Returns the training log, and Adam's last moments by weight.

    `held_out` samples are evaluated for early stopping. The log has one row per step: step, epoch, samples, loss (of
    the training samples, in nats per token), learning_rate, tokens (forward and backward, the method's included, with
    padding), extra_tokens (of passes that are forward only), term (the value of the method's penalty),
    held_out_loss (NaN where there was no evaluation). `ValueError` when the loss is not finite.
    """
    params, weights = context.params, context.weights
    steps = plan_steps(context.samples, epochs, params.batch_size, params.seed)
    optimiser = Optimiser(weights, params, len(steps))
    every = params.evaluate_every or max(1, len(steps) // epochs)
    best, log = BestWeights(), list[dict[str, Any]]()
    if checkpoints is not None and (found := checkpoints.load()) is not None:
        log = found.facts["log"]
        theta = found.tensors["best"].to(weights.theta)
        best = BestWeights(found.facts["best"], theta, found.facts["evaluations_since"])
        optimiser.restore(found)
        for name, tensor in callbacks.checkpointed.items():
            tensor.copy_(found.tensors[f"method.{name}"])
    read = context.encoded if epochs > 1 else lambda sample: encode(context.vlm, sample, context.pictures)
    with _training_mode(context.vlm, params.gradient_checkpointing):
        for step in tqdm(steps[len(log) :], "training", unit="step", disable=None if group.is_first else True):
            if best.evaluations_since >= params.patience:
                break
            with _seeded_generator(params.seed, step.number, context.vlm.device):
                row = _step(context, callbacks, [read(context.samples[place]) for place in step.places], step, group)
            row["learning_rate"] = optimiser.step(step.number)
            row["term"] += callbacks.on_step(step)
            if held_out and (step.number + 1) % every == 0:
                before = context.tokens.forward_only
                row["held_out_loss"] = held_out_loss(context, held_out)
                row["extra_tokens"] += context.tokens.forward_only - before
                best.update(row["held_out_loss"], weights.theta)
            log.append(row)
            if group.is_first:
                loss_events.emit(step.number, {name: row[name] for name in loss_events.VALUES})
                if checkpoints is not None and checkpoints.is_due(len(log)):
                    checkpoints.save(_checkpoint(log, best, weights, optimiser, callbacks))
    if held_out and np.isfinite(best.loss):
        weights.theta.copy_(best.theta)
    return pd.DataFrame(log, columns=LOG_COLUMNS).astype({"held_out_loss": float}), optimiser.moments()


def _step(
    context: TrainingContext, callbacks: StepCallbacks, rows: list[Encoded], step: Step, group: Group
) -> dict[str, Any]:
    """Leave the clipped gradient of one step in `weights.gradient`; returns the step's row of the log."""
    gradient, params, before = context.weights.gradient, context.params, replace(context.tokens)
    gradient.zero_()
    answers = sum(int(row.answers.sum()) for row in rows)
    sums = torch.zeros(5, dtype=torch.float64)  # loss, method's loss, tokens, method's trained and forward-only tokens
    for places in batches([len(row) for row in rows], params.token_budget)[group.rank :: group.size]:
        batch = context.collate([rows[place] for place in places])
        logits, labels = answer_logits(context.vlm, batch)
        loss = answer_loss(logits, labels) / answers
        further = callbacks.on_batch(batch, logits, labels)
        total = loss if further is None else loss + further / answers
        if total.requires_grad:  # not if only a projector is trained and the batch has no pictures
            total.backward()
        sums[:3] += torch.tensor([loss.item(), total.item() - loss.item(), batch.input_ids.numel()], dtype=sums.dtype)
    sums[3:] = torch.tensor(_tokens_since(before, context.tokens), dtype=sums.dtype)
    group.add(gradient)
    sums = group.total(sums, gradient.device)
    before = replace(context.tokens)  # every process makes the passes that follow; they are counted once
    term = callbacks.on_gradient(step) + sums[1].item()
    if not np.isfinite(sums[0].item() + term):
        found = f"the loss is {sums[0].item():g}, the method's term {term:g}"
        raise ValueError(f"{found}: training.learning_rate {params.learning_rate:g} may be too high")
    gradient.mul_((params.max_norm / (gradient.norm() + 1e-6)).clamp(max=1))
    trained, forward_only = _tokens_since(before, context.tokens)
    return {
        "step": step.number,
        "epoch": step.epoch,
        "samples": len(rows),
        "loss": sums[0].item(),
        "tokens": int(sums[2] + sums[3]) + trained,
        "extra_tokens": int(sums[4]) + forward_only,
        "term": term,
    }


def _tokens_since(before: TokenCounter, now: TokenCounter) -> tuple[int, int]:
    return now.trained - before.trained, now.forward_only - before.forward_only


class Optimiser:
    """AdamW over θ; the projector's weights have their own learning rate, and both rates follow one schedule."""

    def __init__(self, weights: Weights, params: TrainingParams, steps: int) -> None:
        self._weights, self._params, self._steps = weights, params, steps
        start = weights.projector_start
        parts = (slice(0, start), slice(start, len(weights.theta)))
        self._rates = (params.learning_rate, params.projector_learning_rate)
        self._parts = [torch.nn.Parameter(weights.theta[part]) for part in parts]
        for vector, part in zip(self._parts, parts, strict=True):
            vector.grad = weights.gradient[part]
        self._adam = torch.optim.AdamW(
            [{"params": [vector]} for vector in self._parts], weight_decay=params.weight_decay
        )

    def step(self, number: int) -> float:
        """Change θ by one step; returns the learning rate of the weights outside the projector."""
        for group, rate in zip(self._adam.param_groups, self._rates, strict=True):
            group["lr"] = rate * cosine_schedule(number, self._steps, self._params.warm_up)
        self._adam.step()
        return float(self._adam.param_groups[0]["lr"])

    def moment(self, name: str) -> Float[Tensor, " weights"]:
        """One of Adam's moments (FIRST or SECOND) of every weight; zeros before the first step."""
        found = [self._adam.state[part].get(name, torch.zeros_like(part)) for part in self._parts]
        return torch.cat([part.detach() for part in found])

    def moments(self) -> dict[str, Tensor]:
        """Both moments of every weight, on the CPU: <weight's name>.<moment> → tensor."""
        return {
            f"{name}.{moment}": part.to("cpu", copy=True)
            for moment in (FIRST_MOMENT, SECOND_MOMENT)
            for name, part in self._weights.views(self.moment(moment)).items()
        }

    def restore(self, found: TrainingCheckpoint) -> None:
        """Restore the moments and θ from a checkpoint."""
        self._weights.theta.copy_(found.tensors["theta"])
        start = 0
        for part in self._parts:
            here = slice(start, start + part.numel())
            start = here.stop
            if part.numel():
                moments = {name: found.tensors[name][here].to(part.device) for name in (FIRST_MOMENT, SECOND_MOMENT)}
                self._adam.state[part] = {"step": torch.tensor(float(found.done)), **moments}


def held_out_loss(context: TrainingContext, held_out: Sequence[Sample]) -> float:
    """The mean loss over the answer tokens of the held-out samples, in nats per token."""
    total, answers = 0.0, 0
    context.vlm.model.eval()
    with torch.no_grad():
        for _, batch in context.batches(held_out):
            logits, labels = context.forward(batch)
            total += answer_loss(logits, labels).item()
            answers += int((labels != IGNORED_LABEL).sum())
    context.vlm.model.train()
    return total / answers


def _checkpoint(
    log: list[dict[str, Any]], best: BestWeights, weights: Weights, optimiser: Optimiser, callbacks: StepCallbacks
) -> TrainingCheckpoint:
    tensors = {"theta": weights.theta, "best": best.theta}
    tensors |= {name: optimiser.moment(name) for name in (FIRST_MOMENT, SECOND_MOMENT)}
    tensors |= {f"method.{name}": tensor for name, tensor in callbacks.checkpointed.items()}
    facts = {"log": log, "best": best.loss, "evaluations_since": best.evaluations_since}
    return TrainingCheckpoint(len(log), tensors, facts)


@contextmanager
def _training_mode(vlm: Vlm, checkpointing: bool) -> Iterator[None]:
    if checkpointing:
        vlm.base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    vlm.model.train()
    try:
        yield
    finally:
        vlm.model.eval()
        if checkpointing:
            vlm.base.gradient_checkpointing_disable()


@contextmanager
def _seeded_generator(seed: int, step: int, device: torch.device) -> Iterator[None]:
    """Random numbers, as of dropout, that depend on the seed and the step alone; the global generator is untouched."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed * 1_000_003 + step)
        yield
