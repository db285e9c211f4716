"""Folding: where nothing is trained, a LoRA becomes part of the base weights before the model reads or answers.

A LoRA map costs two small multiplications and two passes over the output on top of the base's own. Where no gradient
is wanted none of that is needed. In fp32 the sum is exact to rounding. In half precision it would keep only a few bits
of a small update, and the model would be another one: there the adapter stays apart. So does one of another form than
plain LoRA (`adapters/`): gates and experts are no part of any weight.
"""

from collections.abc import Sequence

import torch
from peft.tuners.lora import Linear as LoraLinear

from adapt_infinity.model.checkpoint import Vlm


def merge_adapter(vlm: Vlm, besides: Sequence[int] = ()) -> None:
    """Fold the active adapter into the base weights, except in these decoder layers.

    The model is changed for good (unfolding would leave rounding behind): it is no longer one to train or to save. Does
    nothing to a model in half precision or of another form, and nothing the second time.
    """
    if vlm.base.dtype != torch.float32 or vlm.adapter_type:
        return
    left = {id(module) for number in besides for module in vlm.layers[number].modules()}
    for module in vlm.model.modules():
        if type(module) is LoraLinear and id(module) not in left and not module.merged:
            module.merge()
