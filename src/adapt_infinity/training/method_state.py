"""What a method carries from round to round: importances and anchors, logits, keys. A catalog entry like any other.

method_state/
state.safetensors    the tensors
record.json          whose they are, and facts about them
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
    """Empty at genesis. `method` is the one that made it, "" for none."""

    method: str = ""
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """What it costs to keep."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


def start_state() -> MethodState:
    """Before the first round no method has anything to carry."""
    return MethodState()


def own_state(state: MethodState, method: str) -> MethodState:
    """The state, if it is this method's or empty; `ValueError` for another's: its numbers would mean something else."""
    if state.tensors and state.method != method:
        raise ValueError(
            f"the round before was trained by {state.method}, whose state {method} cannot use: keep training.method, "
            f"or go through a round of finetune, which drops it"
        )
    return state if state.tensors else MethodState(method)


def read_state(path: Path) -> MethodState:
    """A state as it was saved."""
    record = json.loads((path / "record.json").read_text())
    return MethodState(record["method"], load_file(path / "state.safetensors"), record["facts"])


def write_state(state: MethodState, path: Path) -> None:
    """Make the folder."""
    path.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in state.tensors.items()}, path / "state.safetensors")
    record = {"method": state.method, "facts": dict(state.record)}
    (path / "record.json").write_text(json.dumps(record, indent=1, sort_keys=True))
