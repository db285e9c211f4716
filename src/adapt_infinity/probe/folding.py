"""Folding: where no gradient is wanted, the adapter becomes part of the base weights before the pool is read.

A LoRA map costs two small multiplications and two passes over the output on top of the base's own. Outside the probed
layers none of that is needed. In fp32 the sum is exact to rounding. In half precision it would keep only a few bits of
a small update, and the rows would be those of another model: there the adapter stays apart.
"""

from collections.abc import Sequence

import torch
from peft.tuners.lora import Linear as LoraLinear

from adapt_infinity.model import Vlm


def fold_adapter(vlm: Vlm, layers: Sequence[int]) -> None:
    """Fold the active adapter into the base weights of the probe's own model, except in these decoder layers.

    The model is changed for good (unfolding would leave rounding behind): it is no longer one to train or to save. Does
    nothing to a model in half precision, and nothing the second time.
    """
    if vlm.base.dtype != torch.float32:
        return
    probed = {id(module) for number in layers for module in vlm.layers[number].modules()}
    for module in vlm.model.modules():
        if type(module) is LoraLinear and id(module) not in probed and not module.merged:
            module.merge()
