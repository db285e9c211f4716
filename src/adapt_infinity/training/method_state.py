"""Method state: what a training method carries from one round to the next, such as importances, anchors or logits.

On disk it is a folder:

method_state/
state.safetensors    the tensors
record.json          the method that made the state, and facts about the tensors
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor


@dataclass(frozen=True)
class MethodState:
    """The tensors of a method, and facts about them (`record`). `method` made them; it is "" at genesis."""

    method: str = ""
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """The size of the tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


def start_state() -> MethodState:
    """The empty state before the first round."""
    return MethodState()


def state_for(method: str, state: MethodState) -> MethodState:
    """The state as `method` may use it: its own state, or an empty one.

    `ValueError` for a state with tensors of another method, which would mean something else here.
    """
    if state.tensors and state.method != method:
        raise ValueError(
            f"the round before was trained by {state.method}, whose state {method} cannot use: keep training.method, "
            f"or train one round by finetune, which drops the state"
        )
    return state if state.tensors else MethodState(method)


def read_state(path: Path) -> MethodState:
    """Read a folder that `write_state` wrote."""
    record = json.loads((path / "record.json").read_text())
    return MethodState(record["method"], load_file(path / "state.safetensors"), record["facts"])


def write_state(state: MethodState, path: Path) -> None:
    """Write the state to the folder `path`, which must not exist."""
    path.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in state.tensors.items()}, path / "state.safetensors")
    record = {"method": state.method, "facts": dict(state.record)}
    (path / "record.json").write_text(json.dumps(record, indent=1, sort_keys=True))
