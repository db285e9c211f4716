"""Training checkpoints: a training that was killed continues from the last one, and ends with the same weights.

A checkpoint is one file, replaced as a whole: θ, Adam's moments, the tensors of the method, and the log so far. It
has a fingerprint of everything that decides the training; a file with another fingerprint is not used. The random
numbers of a step depend on the seed and the step alone, so no state of a generator has to be saved.
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
    """A training after `done` steps."""

    done: int
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]  # the log, and what early stopping has to know; must fit into JSON


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoint file of one training, written every `every` steps; with 0 it is never written or read."""

    path: Path
    fingerprint: str
    every: int

    def is_due(self, done: int) -> bool:
        """Whether a checkpoint is to be written after `done` steps."""
        return self.every > 0 and done % self.every == 0

    def save(self, checkpoint: TrainingCheckpoint) -> None:
        """Replace the file by this checkpoint, so that it survives a crash of the machine."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        facts = {"fingerprint": self.fingerprint, "done": str(checkpoint.done), "facts": json.dumps(checkpoint.facts)}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
        save_file(tensors, temporary, metadata=facts)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, self.path)

    def load(self) -> TrainingCheckpoint | None:
        """The checkpoint of this training; None if there is no file, or if the file has another fingerprint."""
        if not self.every or not self.path.is_file():
            return None
        with safe_open(self.path, framework="pt") as file:
            facts = file.metadata()
            if facts["fingerprint"] != self.fingerprint:
                log.info("the checkpoint in %s belongs to another training and is not used", self.path)
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        log.info("training continues after step %s", facts["done"])
        return TrainingCheckpoint(int(facts["done"]), tensors, json.loads(facts["facts"]))

    def clear(self) -> None:
        """Delete the file, when the training is done."""
        self.path.unlink(missing_ok=True)


def fingerprint(adapter: Adapter, state: MethodState, *facts: Any) -> str:
    """32 hexadecimal digits that identify a training: the adapter and state it starts from, and all other facts.

    Facts are dataclasses, or values that fit into JSON.
    """
    digest = hashlib.blake2b(adapter_digest(adapter).encode(), digest_size=16)
    digest.update(json.dumps([_plain(fact) for fact in facts], default=str).encode())
    for name, tensor in sorted(state.tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _plain(fact: Any) -> Any:
    return asdict(fact) if hasattr(fact, "__dataclass_fields__") else fact
