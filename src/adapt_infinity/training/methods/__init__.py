"""Continual-learning methods, one file each: what a round does against forgetting. A method has

Params                                            its parameters under `methods.<name>`, see parameters.py
PLAIN                                             the Params with which it equals fine-tuning bit for bit
start(context, state, params) -> StepCallbacks    what it does in each step; `state` is its state of the round before
replace_samples(ids, memory, params, seed)        optional: the ids to train on, equally many as `ids`
prepare_adapter(vlm, memory, training, params)    optional: the model with the method's adapter type (model/adapters/)
ADAPTER_POLICIES                                  optional: the adapter policies that it can work with

Any method can be combined with any data strategy. `finetune` does nothing beside the training loop.
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from adapt_infinity import registry
from adapt_infinity.parameters import from_mapping
from adapt_infinity.training import adapter_policy


def names() -> list[str]:
    """All methods, by file name."""
    return registry.names(__name__)


def load(name: str) -> ModuleType:
    """The file of the method `name`; `ValueError` lists the known methods."""
    return registry.module(__name__, name)


def params_of(name: str, given: Mapping[str, Any]) -> Any:
    """The method's parameters out of `params:methods`; `ValueError` names a key that is not known or a wrong value."""
    return from_mapping(load(name).Params, given.get(name, {}))


def check_adapter_policy(name: str, policy: str) -> None:
    """`ValueError` when the method `name` cannot work with this adapter policy."""
    possible = getattr(load(name), "ADAPTER_POLICIES", adapter_policy.POLICIES)
    if policy not in possible:
        raise ValueError(
            f"training.method={name} needs training.adapter_policy={' or '.join(possible)}, got {policy!r}"
        )
