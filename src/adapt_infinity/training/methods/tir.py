"""TIR: task-similarity-informed regularisation (He et al., arXiv:2311.16206, section 5).

As EWC or MAS, but each weight is held for the task that needed it most, and is held less the more the new task
resembles that task:

    importance  I ← max(I, I_t), elementwise; `owner` says from which task each weight's maximum came
    penalty     (λ/2) Σ_w I_w (1 − sim_owner(w)) (θ_w − θ*_w)²
    sim_j       the product over image, instruction and answer of σ(standardised cosine) of the tasks' mean vectors;
                with a single earlier task nothing can be standardised, and the cosine itself is used

A task is a round.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

from adapt_infinity.model.modality_embeddings import MODALITIES, embed_modalities
from adapt_infinity.parameters import NonNegativeFloat, OneOf, PositiveInt, check
from adapt_infinity.training.adapter_policy import CONTINUE
from adapt_infinity.training.context import StepCallbacks, TrainingContext
from adapt_infinity.training.method_state import MethodState
from adapt_infinity.training.penalty import IMPORTANCES, QuadraticPenalty, stored_vectors

ADAPTER_POLICIES = (CONTINUE,)  # importances of an old adapter do not fit the weights of a new one


@dataclass(frozen=True, kw_only=True)
class Params:
    """methods.tir."""

    SECTION: ClassVar[str] = "methods.tir"

    strength: NonNegativeFloat = 10000.0  # λ; the importances of a round sum to 1 over all weights
    importance: Annotated[str, OneOf(tuple(IMPORTANCES))] = "ewc"
    batches: PositiveInt = 25  # batches for the importance
    batch_size: PositiveInt = 8  # samples per batch
    samples: PositiveInt = 1000  # samples whose mean embedding represents a task

    def __post_init__(self) -> None:
        check(self)


PLAIN = Params(strength=0.0, importance="ewc", batches=1, batch_size=1, samples=4)


def start(context: TrainingContext, state: MethodState, params: Params) -> StepCallbacks:
    """Penalise changes from earlier rounds in so far as this task differs from theirs, from the second round on."""
    weights = context.weights
    task = task_vectors(context, params.samples)

    def at_end() -> MethodState:
        importance = IMPORTANCES[params.importance](context, params.batches, params.batch_size)
        owner = torch.zeros(len(importance), dtype=torch.uint8, device=importance.device)
        tasks = {name: vector.unsqueeze(0) for name, vector in task.items()}
        if state.tensors:
            old, old_owner = stored_vectors(weights, state, "importance", "owner")
            importance, owner = take_maximum(old, old_owner, importance, number=len(state.tensors["image"]))
            tasks = {name: torch.cat([state.tensors[name], tasks[name]]) for name in MODALITIES}
        anchor = weights.theta.to("cpu", copy=True)
        tensors = {"importance": importance.cpu(), "owner": owner.cpu(), "anchor": anchor, **tasks}
        return MethodState("tir", tensors, {"layout": weights.layout, "round": context.round})

    if not state.tensors:
        return StepCallbacks(at_end=at_end)
    importance, owner, anchor = stored_vectors(weights, state, "importance", "owner", "anchor")
    similarity = similarities({name: state.tensors[name] for name in MODALITIES}, task)
    reduced = importance * (1 - similarity.to(importance))[owner.long()]
    penalty = QuadraticPenalty(weights, reduced, anchor, params.strength)
    return StepCallbacks(on_gradient=penalty.on_gradient, at_end=at_end)


def task_vectors(context: TrainingContext, count: int) -> dict[str, Float[Tensor, " width"]]:
    """The mean image, instruction and answer embedding of at most `count` training samples."""
    rows = [context.encoded(sample) for sample in context.draw_samples(count)]
    context.tokens.forward_only += sum(len(row) for row in rows)
    return embed_modalities(context.vlm, rows, context.params.token_budget).means()


def similarities(
    earlier: dict[str, Float[Tensor, "tasks width"]], task: dict[str, Float[Tensor, " width"]]
) -> Float[Tensor, " tasks"]:
    """The similarity of a task to each earlier task, in 0..1."""
    product = torch.ones(len(earlier["image"]))
    for name in MODALITIES:
        product = product * _standardised(cosine_similarity(earlier[name], task[name].unsqueeze(0), dim=1))
    return product


def _standardised(cosines: Float[Tensor, " tasks"]) -> Float[Tensor, " tasks"]:
    if len(cosines) == 1:
        return cosines.clamp(0, 1)
    spread = cosines.std(correction=0)
    return torch.sigmoid((cosines - cosines.mean()) / spread) if spread > 1e-6 else torch.full_like(cosines, 0.5)


def take_maximum(
    old: Float[Tensor, " weights"], old_owner: Tensor, importance: Float[Tensor, " weights"], number: int
) -> tuple[Float[Tensor, " weights"], Tensor]:
    """Elementwise maximum of two importances, and the owners; weights with a higher new importance get owner `number`.

    `ValueError` for more than 256 tasks, because an owner is stored in one byte.
    """
    if number > 255:
        raise ValueError("training.method=tir can store at most 256 tasks: use another method for a longer stream")
    owner = torch.where(importance > old, torch.full_like(old_owner, number), old_owner)
    return torch.maximum(old, importance), owner
