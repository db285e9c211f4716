"""A training that was killed goes on where it was, and ends with the same weights.

One file, replaced as a whole: θ, Adam's moments, what the method moves, the log so far. It carries a fingerprint of
everything that decides the training; one of another fingerprint is not used. What a step draws depends on seed and
step alone, so no generator's state has to be kept.
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from adapt_infinity.model.lora import Adapter, adapter_digest
from adapt_infinity.training.method_state import MethodState

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingCheckpoint:
    """Where a training stands after some steps."""

    done: int  # steps
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]  # the log, and what stopping early needs to know


@dataclass(frozen=True)
class Checkpoints:
    """Those of one training. `every` 0 = none are kept."""

    path: Path
    fingerprint: str
    every: int

    def due(self, done: int) -> bool:
        """Whether one is to be kept after so many steps."""
        return self.every > 0 and done % self.every == 0

    def save(self, checkpoint: TrainingCheckpoint) -> None:
        """In place of the one before, durably."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        facts = {"fingerprint": self.fingerprint, "done": str(checkpoint.done), "facts": json.dumps(checkpoint.facts)}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
        save_file(tensors, temporary, metadata=facts)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, self.path)

    def load(self) -> TrainingCheckpoint | None:
        """The one that is there, if it is of this very training."""
        if not self.every or not self.path.is_file():
            return None
        with safe_open(self.path, framework="pt") as file:
            facts = file.metadata()
            if facts["fingerprint"] != self.fingerprint:
                log.info("the checkpoint in %s is of another training and is not used", self.path)
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        log.info("training goes on after step %s", facts["done"])
        return TrainingCheckpoint(int(facts["done"]), tensors, json.loads(facts["facts"]))

    def clear(self) -> None:
        """The training is over."""
        self.path.unlink(missing_ok=True)


def fingerprint(adapter: Adapter, state: MethodState, contents: list[str], memory: list[int], *params: Any) -> str:
    """32 digits that name a training: what it starts from, what it reads in which order, and every parameter."""
    digest = hashlib.blake2b(adapter_digest(adapter).encode(), digest_size=16)
    digest.update(json.dumps([contents, memory, [_plain(part) for part in params]], default=str).encode())
    for name, tensor in sorted(state.tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _plain(part: Any) -> Any:
    return asdict(part) if hasattr(part, "__dataclass_fields__") else part
