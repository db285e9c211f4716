"""A spec names everything that decides a row's numbers, and refuses unknown names."""

from dataclasses import fields, replace

import pytest

from adapt_infinity.features.spec import Spec
from tests.features.conftest import SPEC


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feature": "fisher"}, r"probe\.feature must be one of gradient, zero_order, embedding, got 'fisher'"),
        ({"gradient": "adagrad"}, r"probe\.gradient must be one of adam, sgd, sign, got 'adagrad'"),
        ({"sketch": "fast_jl"}, r"probe\.sketch must be one of rademacher, segments, got 'fast_jl'"),
        ({"layers": ()}, "rising order"),
        ({"layers": (2, 1)}, "rising order"),
        ({"layers": (1, 1)}, "rising order"),
        ({"layers": (-1, 1)}, "rising order"),
        ({"dim": 0}, r"probe\.dim must be at least 1"),
    ],
)
def test_wrong_values_are_refused_by_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SPEC, **change)  # type: ignore[arg-type]


def test_every_field_is_in_the_digest() -> None:
    changes = {
        "feature": "embedding", "layers": (1, 2), "embedding_layer": 1, "dim": 8, "gradient": "sign",
        "sketch": "rademacher", "image_grounding": False, "version": 99,
    }  # fmt: skip
    assert set(changes) == {field.name for field in fields(Spec)}
    digests = {replace(SPEC, **{name: value}).digest() for name, value in changes.items()}  # type: ignore[arg-type]
    assert len(digests | {SPEC.digest()}) == len(changes) + 1
    assert replace(SPEC).digest() == SPEC.digest()
