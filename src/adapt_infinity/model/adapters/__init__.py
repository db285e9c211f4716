"""Adapter types that add something to plain LoRA, one file each, found by file name. Plain LoRA has no file here.

moe_lora.py  a LoRA that is split into experts, with a router for every adapted module (CoIN)
eproj.py     one projector per task, and keys that say which task a sample belongs to (EProj)

Each file has two functions, and may have one flag:

    attach(model, adapter_type, extra_tensors) -> (live, originals)
        Put the adapter type on a PEFT model that already carries the LoRA. `live` are the extra tensors as they now
        are on the model; `originals` are copies of those weights of the base model that the adapter type replaces.
    trainable_weights(model, adapter_type) -> {name: parameter}
        What a training may change.
    ROUTES_SAMPLES = True
        Different samples are read with different weights. A file without this flag uses the same weights for all.

`adapter_type` is what `record.json` stores under this key: "kind", which is the file's name, and the file's own
settings. `extra_tensors` are the tensors that the adapter type has in addition to LoRA's.
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from adapt_infinity import registry


def load(kind: str) -> ModuleType:
    """The file of the adapter type `kind`. `ValueError` lists the known ones."""
    return registry.module(__name__, kind)


def routes_samples(adapter_type: Mapping[str, Any]) -> bool:
    """Whether different samples are read with different weights; False for plain LoRA (an empty `adapter_type`)."""
    return bool(adapter_type) and bool(getattr(load(adapter_type["kind"]), "ROUTES_SAMPLES", False))
