"""Adam's moments of the probed weights, under the names that the probe gives to its modules."""

from collections.abc import Sequence

from torch import Tensor

from adapt_infinity.features.capture import probed_weights
from adapt_infinity.model.checkpoint import Vlm
from adapt_infinity.model.lora import FIRST_MOMENT, SECOND_MOMENT, Adapter


def adapter_moments(vlm: Vlm, adapter: Adapter, layers: Sequence[int]) -> dict[str, tuple[Tensor, Tensor]]:
    """Probed weight → its first and second moment, on the model's device; empty for an adapter without moments."""
    if not adapter.moments:
        return {}
    names = {id(weight): name for name, weight in vlm.model.named_parameters()}
    found = {}
    for module, weight in probed_weights(vlm, layers).items():
        name = names[id(weight)]
        first, second = (adapter.moments[f"{name}.{moment}"].to(vlm.device) for moment in (FIRST_MOMENT, SECOND_MOMENT))
        found[module] = (first, second)
    return found
