"""Merging: where nothing is trained, a LoRA becomes part of the base weights before the model reads or answers.

A LoRA module costs two small matrix products and two passes over the output in addition to the base module's own work.
Where no gradient is needed, none of that is needed. In fp32 the merged weights are exact up to rounding. In half
precision a small update would keep only a few bits, and the model would compute something else: the adapter then stays
unmerged. Adapter types other than plain LoRA (`adapters/`) stay unmerged, too, because their gates and projectors are
not part of any one weight.
"""

from collections.abc import Sequence

import torch
from peft.tuners.lora import Linear as LoraLinear

from adapt_infinity.model.checkpoint import Vlm


def merge_adapter(vlm: Vlm, except_layers: Sequence[int] = ()) -> None:
    """Merge the active adapter into the base weights, except in these decoder layers (counted from the bottom).

    This changes the model for good: unmerging would leave rounding errors behind, so it can no longer be trained or
    saved. Does nothing to a model in half precision, to another adapter type than plain LoRA, and on a second call.
    """
    if vlm.base.dtype != torch.float32 or vlm.adapter_type:
        return
    excluded = {id(module) for number in except_layers for module in vlm.layers[number].modules()}
    for module in vlm.model.modules():
        if type(module) is LoraLinear and id(module) not in excluded and not module.merged:
            module.merge()
