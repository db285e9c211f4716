"""Adapter policies: how the adapter of a round begins.

`continue`        the previous round's LoRA is trained further, so its rank bounds all changes of a stream.
`merge_then_new`  the previous LoRA is merged into the base weights and frozen; a new LoRA (B = 0) is trained. On disk
                  the ranks of all rounds stand side by side in one adapter, whose rank grows by the same number every
                  round.
"""

from dataclasses import dataclass

from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, Vlm, attach, load_vlm, new_adapter
from adapt_infinity.model.lora import Adapter, join_ranks, scaling

CONTINUE, MERGE = "continue", "merge_then_new"
POLICIES = (CONTINUE, MERGE)


@dataclass(frozen=True)
class StartingModel:
    """What the model of a round is made from: the base model, and the adapter of the round before."""

    base_model: Checkpoint
    model_params: ModelParams
    previous_adapter: Adapter


def load_for_round(start: StartingModel, policy: str, seed: int, round: int) -> Vlm:
    """The model with the adapter that the round trains.

    `ValueError` when a new LoRA would be scaled differently from the frozen ranks beside it.
    """
    if policy == CONTINUE:
        return load_vlm(start.base_model, start.model_params, start.previous_adapter)
    previous = start.previous_adapter
    vlm = load_vlm(start.base_model, start.model_params)
    fresh = new_adapter(vlm, start.model_params, seed + 1_000_003 * round)
    if scaling(fresh.config) != scaling(previous.config):
        raise ValueError(
            f"training.adapter_policy={MERGE} keeps model.adapter_alpha / adapter_rank as it was: "
            f"the previous adapter has {scaling(previous.config):g}, the new one {scaling(fresh.config):g}"
        )
    return attach(vlm, join_ranks(previous.tensors, fresh))
