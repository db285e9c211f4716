"""The embedded model with adapters of any kind, and rows of every kind for it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import Sample
from adapt_infinity.features.spec import Spec
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, Vlm, load_vlm
from adapt_infinity.model.prompts import encode
from tests.conftest import TARGETS
from tests.model.test_prompts import samples as samples

Tune = Callable[..., Vlm]
SPEC = Spec(
    feature="gradient",
    layers=(2,),
    embedding_layer=3,
    dim=128,
    gradient="sgd",
    sketch="segments",
    image_grounding=True,
)


@pytest.fixture(scope="session")
def tune(base_model: Checkpoint, model_params: ModelParams) -> Tune:
    """The embedded model with an adapter of any kind on it, none of whose parts is zero."""

    def with_options(**options: Any) -> Vlm:
        vlm = load_vlm(base_model, model_params)
        config = LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": TARGETS, **options})
        return still(replace(vlm, model=get_peft_model(vlm.model, config)))

    return with_options


def still(vlm: Vlm) -> Vlm:
    draw = torch.Generator().manual_seed(0)
    for name, weight in vlm.model.named_parameters():
        if "lora_B" in name:
            weight.data += 0.02 * torch.randn(weight.shape, generator=draw).to(weight)
    vlm.model.requires_grad_(False)
    vlm.model.eval()
    return vlm


@pytest.fixture(scope="session")
def rows(vlm: Vlm, samples: list[Sample], pictures: Pictures) -> list[Any]:
    """Text only, one picture, several pictures, of very different lengths."""
    return [encode(vlm, sample, pictures) for sample in samples]


def layer_of(vlm: Vlm, number: int) -> Any:
    """A decoder layer whose parts the type checker knows nothing of."""
    return vlm.layers[number]
