"""How a round's adapter begins: with the previous one's weights, or new, beside what the previous ones have changed.

`continue`: the same LoRA learns on, so its rank bounds all that a stream can change. `merge_then_new`: what was
learned is merged into the base weights and rests; a fresh LoRA (B = 0) learns the round. On disk the rounds' ranks
stand side by side in one adapter, so its rank grows by as much every round.
"""

from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, Vlm, attach, load_vlm, new_adapter
from adapt_infinity.model.lora import Adapter, join_ranks, scaling

CONTINUE, MERGE = "continue", "merge_then_new"
POLICIES = (CONTINUE, MERGE)


def begin(
    base_model: Checkpoint, model_params: ModelParams, previous: Adapter, policy: str, seed: int, round: int
) -> Vlm:
    """The model, with the adapter that the round is going to train on it.

    `ValueError` when a new adapter would count for more or less than the ranks that it is put beside.
    """
    if policy == CONTINUE:
        return load_vlm(base_model, model_params, previous)
    vlm = load_vlm(base_model, model_params)
    fresh = new_adapter(vlm, model_params, seed + 1_000_003 * round)
    if scaling(fresh.config) != scaling(previous.config):
        raise ValueError(
            f"training.adapter_policy={MERGE} keeps model.adapter_alpha / adapter_rank as it was: "
            f"the previous adapter has {scaling(previous.config):g}, the new one {scaling(fresh.config):g}"
        )
    return attach(vlm, join_ranks(previous.tensors, fresh))
