"""The spec of a feature row: everything that decides its numbers, apart from the sample and the model.

The spec is stored with the rows. For the same spec, model and sample, a row is the same wherever it is computed.
"""

import hashlib
import json
from dataclasses import asdict, dataclass

VERSION = 4  # of the computation: raise it whenever the same spec would give other numbers
FEATURES = ("gradient", "zero_order", "embedding")


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Which numbers a row consists of, made from ProbeParams. Decoder layers are counted from 0 at the bottom."""

    feature: str  # gradient; zero_order: loss differences along shared directions; embedding: no gradient
    layers: tuple[int, ...]  # decoder layers whose LoRA modules are probed
    embedding_layer: int  # decoder layer whose output is the embedding
    dim: int  # width of a feature row; `embedding` ignores it and has the width of the hidden state
    gradient: str  # a file in features/gradients: what is done to a gradient before it is sketched
    sketch: str  # a file in features/sketches
    image_grounding: bool  # whether samples are also read without their images
    version: int = VERSION

    def __post_init__(self) -> None:
        assert self.layers, "checked by ProbeParams"
        assert list(self.layers) == sorted(set(self.layers)), self.layers

    def digest(self) -> str:
        """16 hexadecimal digits that identify this spec."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
