"""Fixtures of the model's tests, a spec of the features, and access to a decoder layer."""

from typing import Any

from adapt_infinity.features.spec import Spec
from adapt_infinity.model.checkpoint import Vlm
from tests.model.conftest import rows as rows
from tests.model.conftest import samples as samples
from tests.model.conftest import with_lora as with_lora

SPEC = Spec(
    feature="gradient",
    layers=(2,),
    embedding_layer=3,
    dim=128,
    gradient="sgd",
    sketch="segments",
    image_grounding=True,
)


def layer_of(vlm: Vlm, number: int) -> Any:
    """A decoder layer, as `Any`: the type checker does not know its submodules."""
    return vlm.layers[number]
