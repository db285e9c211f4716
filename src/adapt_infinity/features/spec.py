"""What a feature row is: everything that decides its numbers, apart from the sample and the model.

The spec is stored with the rows. Rows of one spec, one model and one sample are the same rows wherever they are made.
"""

import hashlib
import json
from dataclasses import asdict, dataclass

from adapt_infinity.features import gradients, sketches

VERSION = 4  # of how rows are computed; raise it whenever the same spec would give other numbers
FEATURES = ("gradient", "zero_order", "embedding")


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Which numbers a row consists of; layers are the decoder's, bottom first."""

    feature: str  # gradient; zero_order: loss differences along shared directions; embedding: no gradient at all
    layers: tuple[int, ...]  # whose LoRA modules are probed
    embedding_layer: int  # whose output is the embedding
    dim: int  # width of a feature row (ignored by `embedding`, whose width is the model's)
    gradient: str  # a file in probe/gradients: what is made of a module's gradient before it is sketched
    sketch: str  # a file in probe/sketches
    image_grounding: bool  # whether samples are read without their pictures, too
    version: int = VERSION

    def __post_init__(self) -> None:
        for key, known in (("feature", FEATURES), ("gradient", gradients.names()), ("sketch", sketches.names())):
            if getattr(self, key) not in known:
                raise ValueError(f"probe.{key} must be one of {', '.join(known)}, got {getattr(self, key)!r}")
        if not self.layers or list(self.layers) != sorted(set(self.layers)) or self.layers[0] < 0:
            raise ValueError(f"the probe's layers must be numbers in rising order, got {self.layers}")
        if self.dim < 1:
            raise ValueError(f"probe.dim must be at least 1, got {self.dim}")

    def digest(self) -> str:
        """16 hexadecimal digits that name this spec."""
        words = json.dumps(asdict(self), sort_keys=True)
        return hashlib.blake2b(words.encode(), digest_size=8).hexdigest()
