"""A spec names everything that decides a row's numbers, and is made from checked parameters."""

from dataclasses import fields, replace
from typing import Any

import pytest

from adapt_infinity.features.probe import ProbeParams, identify
from adapt_infinity.features.spec import Spec
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams
from adapt_infinity.model.lora import Adapter
from tests.features.conftest import SPEC


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feature": "fisher"}, r"probe\.feature must be gradient, zero_order or embedding, got 'fisher'"),
        ({"gradient": "adagrad"}, r"probe\.gradient must be .*adam.*sgd.*sign, got 'adagrad'"),
        ({"sketch": "fast_jl"}, r"probe\.sketch must be .*rademacher.*segments, got 'fast_jl'"),
        ({"layers": []}, r"probe\.layers must be a list of at least one"),
        ({"dim": 0}, r"probe\.dim must be at least 1"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_wrong_values_are_refused_before_a_spec_is_made(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProbeParams(**change)


def test_layers_of_a_spec_rise_whatever_their_order_in_the_parameters(
    base_model: Checkpoint, warm_adapter: Adapter, model_params: ModelParams
) -> None:
    """The digest of a row does not depend on how the user writes the layers; a layer that is not there is refused."""
    identities = [
        identify(base_model, warm_adapter, model_params, ProbeParams(layers=layers)) for layers in ([2, 1, 1], [1, 2])
    ]
    assert {identity.spec.layers for identity in identities} == {(1, 2)}
    with pytest.raises(ValueError, match=r"probe\.layers must lie in 0\.\.3, got -1"):
        identify(base_model, warm_adapter, model_params, ProbeParams(layers=[-1, 1]))


def test_every_field_is_in_the_digest() -> None:
    changes = {
        "feature": "embedding", "layers": (1, 2), "embedding_layer": 1, "dim": 8, "gradient": "sign",
        "sketch": "rademacher", "image_grounding": False, "version": 99,
    }  # fmt: skip
    assert set(changes) == {field.name for field in fields(Spec)}
    digests = {replace(SPEC, **{name: value}).digest() for name, value in changes.items()}  # type: ignore[arg-type]
    assert len(digests | {SPEC.digest()}) == len(changes) + 1
    assert replace(SPEC).digest() == SPEC.digest()
