"""Forms of an adapter beside plain LoRA: what they put on a model, and what of it is trained. One file each, with

    attach(model, form, extras) -> (live, own)   put on: the extras as they live on the model, and the base model's own
                                                 weights where others took their place
    trained(model, form) -> weights by name      what a training may change

`model` is a PEFT model with the adapter's LoRA on it. `form` is what `record.json` says ("kind" is the file's name);
`extras` are the tensors that the form adds to LoRA's. Plain LoRA has neither.
"""

from types import ModuleType

from adapt_infinity import registry


def load(kind: str) -> ModuleType:
    """The form `kind`; `ValueError` lists those that there are."""
    return registry.module(__name__, kind)
