"""Continual-learning methods: how a round learns. One file each, with

    Params                                 what can be set, under `methods.<name>` (a frozen dataclass)
    PLAIN                                  the Params with which it is plain fine-tuning, bit for bit
    start(lesson, state, params) -> StepCallbacks what it does in each step, given what the round before left it
    choose(ids, memory, params, seed)      optional: other samples in place of some of the chosen, equally many
    shape(vlm, memory, training, params)   optional: the model with the method's adapter type (see `model/adapters/`)
    ADAPTER_POLICIES                               optional: the adapter policies that it can work with

Any of them goes with any data strategy; `finetune` is the one that does nothing more.
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from adapt_infinity import registry
from adapt_infinity.parameters import from_mapping
from adapt_infinity.training import adapter_policy


def names() -> list[str]:
    """The methods that there are, by file name."""
    return registry.names(__name__)


def load(name: str) -> ModuleType:
    """The method `name`; `ValueError` lists those that there are."""
    return registry.module(__name__, name)


def params_of(name: str, given: Mapping[str, Any]) -> Any:
    """The method's parameters out of `params:methods`; `ValueError` names a key that is not known or a wrong value."""
    return from_mapping(load(name).Params, given.get(name, {}))


def check_adapter_policy(name: str, policy: str) -> None:
    """`ValueError` when the method cannot work with this way of beginning a round."""
    possible = getattr(load(name), "ADAPTER_POLICIES", adapter_policy.POLICIES)
    if policy not in possible:
        raise ValueError(
            f"training.method={name} needs training.adapter_policy={' or '.join(possible)}, got {policy!r}"
        )
