"""The training loop (METHOD section 6): AdamW on answer tokens, and a method's part at four points of each step.

A step sees `batch_size` samples, cut into micro-batches of at most `token_budget` tokens; its loss is the mean over all
answer tokens of the step, so that cutting, or sharing out over processes, changes nothing.
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
from adapt_infinity.training.context import StepCallbacks, TrainingContext, answer_loss
from adapt_infinity.training.parameter_vector import Weights
from adapt_infinity.training.params import TrainingParams
from adapt_infinity.training.process_group import Group
from adapt_infinity.training.schedule import Step, cosine, plan

LOG = ["step", "epoch", "samples", "loss", "learning_rate", "tokens", "extra_tokens", "term", "held_out_loss"]
ALONE = Group()


@dataclass
class Best:
    """The weights that did best on the samples kept back, and how long ago that was."""

    loss: float = float("inf")
    theta: Tensor = field(default_factory=lambda: torch.empty(0))
    looks: int = 0  # since then

    def look(self, loss: float, theta: Float[Tensor, " weights"]) -> None:
        """Another look at the samples kept back."""
        if loss < self.loss:
            self.loss, self.theta, self.looks = loss, theta.clone(), 0
        else:
            self.looks += 1


def train(
    lesson: TrainingContext,
    course: StepCallbacks,
    epochs: int,
    held: Sequence[Sample] = (),
    checkpoints: Checkpoints | None = None,
    group: Group = ALONE,
) -> tuple[pd.DataFrame, dict[str, Tensor]]:
    """Train the weights of the lesson, in place. Returns the log and Adam's last moments, by weight.

    Log: step, epoch, samples, loss (nats a token, of what was chosen), learning_rate, tokens (read forward and
    backward, by the method too, padding included), extra_tokens (of the method's passes that go forward only), term
    (what the method's penalty comes to), held_out_loss (NaN where there was no look).
    """
    params, weights = lesson.params, lesson.weights
    steps = plan(lesson.samples, epochs, params.batch_size, params.seed)
    optimiser = Optimiser(weights, params, len(steps))
    every = params.evaluate_every or max(1, len(steps) // epochs)
    best, log = Best(), list[dict[str, Any]]()
    if checkpoints is not None and (found := checkpoints.load()) is not None:
        log = found.facts["log"]
        best = Best(found.facts["best"], found.tensors["best"].to(weights.theta), found.facts["looks"])
        optimiser.restore(found)
        for name, tensor in course.moving.items():
            tensor.copy_(found.tensors[f"moving.{name}"])
    read = lesson.encoded if epochs > 1 else lambda sample: encode(lesson.vlm, sample, lesson.pictures)
    with _training_mode(lesson.vlm, params.gradient_checkpointing):
        bar = tqdm(steps[len(log) :], "training", unit="step", disable=None if group.first else True)
        for step in bar:
            if best.looks >= params.patience:
                break
            with _own_generator(params.seed, step.number, lesson.vlm.device):
                row = _step(lesson, course, [read(lesson.samples[place]) for place in step.places], step, group)
            row["learning_rate"] = optimiser.step(step.number)
            row["term"] += course.on_step(step)
            if held and (step.number + 1) % every == 0:
                before = lesson.meter.read
                row["held_out_loss"] = held_out_loss(lesson, held)
                row["extra_tokens"] += lesson.meter.read - before
                best.look(row["held_out_loss"], weights.theta)
            log.append(row)
            if group.first:
                loss_events.tell(step.number, {name: row[name] for name in loss_events.TOLD})
                if checkpoints is not None and checkpoints.due(len(log)):
                    checkpoints.save(_checkpoint(log, best, weights, optimiser, course))
    if held and np.isfinite(best.loss):
        weights.theta.copy_(best.theta)
    return pd.DataFrame(log, columns=LOG).astype({"held_out_loss": float}), optimiser.moments()


def _step(
    lesson: TrainingContext, course: StepCallbacks, rows: list[Encoded], step: Step, group: Group
) -> dict[str, Any]:
    """The gradient of one step, clipped, in `weights.gradient`; its line of the log."""
    gradient, params, before = lesson.weights.gradient, lesson.params, replace(lesson.meter)
    gradient.zero_()
    answers = sum(int(row.answers.sum()) for row in rows)
    sums = torch.zeros(5, dtype=torch.float64)  # loss, further loss, tokens; learnt and read by the method
    for places in batches([len(row) for row in rows], params.token_budget)[group.rank :: group.size]:
        batch = lesson.collate([rows[place] for place in places])
        logits, labels = answer_logits(lesson.vlm, batch)
        loss = answer_loss(logits, labels) / answers
        further = course.on_batch(batch, logits, labels)
        whole = loss if further is None else loss + further / answers
        if whole.requires_grad:  # it need not: a batch without pictures does not come through a projector
            whole.backward()
        sums[:3] += torch.tensor([loss.item(), whole.item() - loss.item(), batch.input_ids.numel()], dtype=sums.dtype)
    sums[3:] = torch.tensor([lesson.meter.learnt - before.learnt, lesson.meter.read - before.read], dtype=sums.dtype)
    group.add(gradient)
    sums = group.total(sums, gradient.device)
    before = replace(lesson.meter)  # what follows every process does by itself, and is counted once
    term = course.on_gradient(step) + sums[1].item()
    if not np.isfinite(sums[0].item() + term):
        found = f"the loss is {sums[0].item():g}, the method's term {term:g}"
        raise ValueError(f"{found}: training.learning_rate {params.learning_rate:g} may be too high")
    gradient.mul_((params.max_norm / (gradient.norm() + 1e-6)).clamp(max=1))
    return {
        "step": step.number,
        "epoch": step.epoch,
        "samples": len(rows),
        "loss": sums[0].item(),
        "tokens": int(sums[2] + sums[3]) + lesson.meter.learnt - before.learnt,
        "extra_tokens": int(sums[4]) + lesson.meter.read - before.read,
        "term": term,
    }


class Optimiser:
    """AdamW over θ, the projector's part at a rate of its own, both on one schedule."""

    def __init__(self, weights: Weights, params: TrainingParams, steps: int) -> None:
        self._weights, self._params, self._steps = weights, params, steps
        parts = (slice(0, weights.slow), slice(weights.slow, len(weights.theta)))
        self._rates = (params.learning_rate, params.projector_learning_rate)
        self._parts = [torch.nn.Parameter(weights.theta[part]) for part in parts]
        for vector, part in zip(self._parts, parts, strict=True):
            vector.grad = weights.gradient[part]
        self._adam = torch.optim.AdamW(
            [{"params": [vector]} for vector in self._parts], weight_decay=params.weight_decay
        )

    def step(self, number: int) -> float:
        """Move θ; the rate at which the larger part of it moved."""
        for group, rate in zip(self._adam.param_groups, self._rates, strict=True):
            group["lr"] = rate * cosine(number, self._steps, self._params.warm_up)
        self._adam.step()
        return float(self._adam.param_groups[0]["lr"])

    def moment(self, name: str) -> Float[Tensor, " weights"]:
        """One of Adam's moments of every weight; zeros before the first step."""
        found = [self._adam.state[part].get(name, torch.zeros_like(part)) for part in self._parts]
        return torch.cat([part.detach() for part in found])

    def moments(self) -> dict[str, Tensor]:
        """Both moments of every weight, on the CPU, under the weights' names."""
        return {
            f"{name}.{moment}": part.to("cpu", copy=True)
            for moment in (FIRST_MOMENT, SECOND_MOMENT)
            for name, part in self._weights.named(self.moment(moment)).items()
        }

    def restore(self, found: TrainingCheckpoint) -> None:
        """As it was when the checkpoint was made, θ included."""
        self._weights.theta.copy_(found.tensors["theta"])
        start = 0
        for part in self._parts:
            here = slice(start, start + part.numel())
            start = here.stop
            if part.numel():
                moments = {name: found.tensors[name][here].to(part.device) for name in (FIRST_MOMENT, SECOND_MOMENT)}
                self._adam.state[part] = {"step": torch.tensor(float(found.done)), **moments}


def held_out_loss(lesson: TrainingContext, held: Sequence[Sample]) -> float:
    """Mean loss over the answer tokens of the samples kept back, nats a token."""
    total, answers = 0.0, 0
    lesson.vlm.model.eval()
    with torch.no_grad():
        for _, batch in lesson.batches(held):
            logits, labels = lesson.read(batch)
            total += answer_loss(logits, labels).item()
            answers += int((labels != IGNORED_LABEL).sum())
    lesson.vlm.model.train()
    return total / answers


def _checkpoint(
    log: list[dict[str, Any]], best: Best, weights: Weights, optimiser: Optimiser, course: StepCallbacks
) -> TrainingCheckpoint:
    tensors = {"theta": weights.theta, "best": best.theta}
    tensors |= {name: optimiser.moment(name) for name in (FIRST_MOMENT, SECOND_MOMENT)}
    tensors |= {f"moving.{name}": tensor for name, tensor in course.moving.items()}
    return TrainingCheckpoint(len(log), tensors, {"log": log, "best": best.loss, "looks": best.looks})


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
def _own_generator(seed: int, step: int, device: torch.device) -> Iterator[None]:
    """For dropout: what it draws depends on seed and step, and nothing that came before."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed * 1_000_003 + step)
        yield
