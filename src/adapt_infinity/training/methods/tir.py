"""TIR: task-similarity-informed regularisation (He et al., arXiv:2311.16206, section 5). As EWC or MAS, but a weight is
held for the task that needed it most, and let go as far as the new task resembles that one:

    importance  I ← max(I, I_t), elementwise, with a map of the task that each weight's maximum came from
    penalty     (λ/2) Σ_w I_w (1 − sim_owner(w)) (θ_w − θ*_w)²
    sim_j       the product over image, instruction and answer of σ(standardised cosine) of the tasks' mean vectors;
                with a single earlier task there is nothing to standardise by, and the cosine itself is taken

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
from adapt_infinity.training.penalty import IMPORTANCES, Quadratic, carried

ADAPTER_POLICIES = (CONTINUE,)  # a new adapter has no place for old importances


@dataclass(frozen=True, kw_only=True)
class Params:
    """methods.tir."""

    SECTION: ClassVar[str] = "methods.tir"

    strength: NonNegativeFloat = 10000.0  # λ; importances of a round sum to 1 over all weights
    importance: Annotated[str, OneOf(tuple(IMPORTANCES))] = "ewc"
    batches: PositiveInt = 25  # over which the importance is taken
    batch_size: PositiveInt = 8  # samples in each
    samples: PositiveInt = 1000  # whose mean stands for a task

    def __post_init__(self) -> None:
        check(self)


PLAIN = Params(strength=0.0, importance="ewc", batches=1, batch_size=1, samples=4)


def start(lesson: TrainingContext, state: MethodState, params: Params) -> StepCallbacks:
    """The penalty of earlier rounds, as far as this round's task differs from theirs."""
    weights = lesson.weights
    task = task_vectors(lesson, params.samples)

    def at_end() -> MethodState:
        found = IMPORTANCES[params.importance](lesson, params.batches, params.batch_size)
        owner = torch.zeros(len(found), dtype=torch.uint8, device=found.device)
        tasks = {name: vector.unsqueeze(0) for name, vector in task.items()}
        if state.tensors:
            old, owners = carried(weights, state, "importance", "owner")
            found, owner = claim(old, owners, found, number=len(state.tensors["image"]))
            tasks = {name: torch.cat([state.tensors[name], tasks[name]]) for name in MODALITIES}
        kept = {"importance": found.cpu(), "owner": owner.cpu(), "anchor": weights.theta.to("cpu", copy=True), **tasks}
        return MethodState("tir", kept, {"layout": weights.layout, "round": lesson.round})

    if not state.tensors:
        return StepCallbacks(at_end=at_end)
    importance, owner, anchor = carried(weights, state, "importance", "owner", "anchor")
    alike = similarity({name: state.tensors[name] for name in MODALITIES}, task)
    held = importance * (1 - alike.to(importance))[owner.long()]
    return StepCallbacks(on_gradient=Quadratic(weights, held, anchor, params.strength).on_gradient, at_end=at_end)


def task_vectors(lesson: TrainingContext, count: int) -> dict[str, Float[Tensor, " width"]]:
    """The mean image, instruction and answer of what is trained on."""
    rows = [lesson.encoded(sample) for sample in lesson.some(count)]
    lesson.meter.read += sum(len(row) for row in rows)
    return embed_modalities(lesson.vlm, rows, lesson.params.token_budget).means()


def similarity(
    earlier: dict[str, Float[Tensor, "tasks width"]], task: dict[str, Float[Tensor, " width"]]
) -> Float[Tensor, " tasks"]:
    """Of a task to each earlier one, in 0..1."""
    found = torch.ones(len(earlier["image"]))
    for name in MODALITIES:
        cosines = cosine_similarity(earlier[name], task[name].unsqueeze(0), dim=1)
        found = found * _standardised(cosines)
    return found


def _standardised(cosines: Float[Tensor, " tasks"]) -> Float[Tensor, " tasks"]:
    if len(cosines) == 1:
        return cosines.clamp(0, 1)
    spread = cosines.std(correction=0)
    return torch.sigmoid((cosines - cosines.mean()) / spread) if spread > 1e-6 else torch.full_like(cosines, 0.5)


def claim(
    importance: Float[Tensor, " weights"], owner: Tensor, found: Float[Tensor, " weights"], number: int
) -> tuple[Float[Tensor, " weights"], Tensor]:
    """Weights that matter more to task `number` than to any before become its own."""
    if number > 255:
        raise ValueError("TIR tells at most 256 tasks apart")
    theirs = found > importance
    return torch.maximum(importance, found), torch.where(theirs, torch.full_like(owner, number), owner)
