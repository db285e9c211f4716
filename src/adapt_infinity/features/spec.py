"""The spec of a feature row: everything that decides its numbers, apart from the sample and the model.

The spec is stored with the rows. For the same spec, model and sample, a row is the same wherever it is computed.
"""

import hashlib
import json
from dataclasses import asdict, dataclass

from adapt_infinity.features import gradients, sketches

VERSION = 4  # of the computation: raise it whenever the same spec would give other numbers
FEATURES = ("gradient", "zero_order", "embedding")


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Which numbers a row consists of. Decoder layers are counted from 0 at the bottom."""

    feature: str  # gradient; zero_order: loss differences along shared directions; embedding: no gradient
    layers: tuple[int, ...]  # decoder layers whose LoRA modules are probed
    embedding_layer: int  # decoder layer whose output is the embedding
    dim: int  # width of a feature row; `embedding` ignores it and has the width of the hidden state
    gradient: str  # a file in features/gradients: what is done to a gradient before it is sketched
    sketch: str  # a file in features/sketches
    image_grounding: bool  # whether samples are also read without their images
    version: int = VERSION

    def __post_init__(self) -> None:
        for key, known in (("feature", FEATURES), ("gradient", gradients.names()), ("sketch", sketches.names())):
            if getattr(self, key) not in known:
                raise ValueError(f"probe.{key} must be one of {', '.join(known)}, got {getattr(self, key)!r}")
        if not self.layers or list(self.layers) != sorted(set(self.layers)) or self.layers[0] < 0:
            raise ValueError(f"the probe's layers must be at least 0 and in rising order, got {self.layers}")
        if self.dim < 1:
            raise ValueError(f"probe.dim must be at least 1, got {self.dim}")

    def digest(self) -> str:
        """16 hexadecimal digits that identify this spec."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
