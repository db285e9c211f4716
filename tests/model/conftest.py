"""The embedded model with a LoRA of any options on it, and samples of every kind with their tokens."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import Sample, samples_of
from adapt_infinity.intake.reading import Source
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, Vlm, load_vlm
from adapt_infinity.model.prompts import Encoded, encode
from tests.conftest import TARGETS, checked

LoraFactory = Callable[..., Vlm]


@pytest.fixture(scope="session")
def samples(toy_source: Source, pictures: Pictures) -> list[Sample]:
    """Text only, one picture, several pictures, of very different lengths."""
    return samples_of(checked(toy_source, pictures)[0])


@pytest.fixture(scope="session")
def rows(vlm: Vlm, samples: list[Sample], pictures: Pictures) -> list[Encoded]:
    """The tokens of `samples`."""
    return [encode(vlm, sample, pictures) for sample in samples]


@pytest.fixture(scope="session")
def with_lora(base_model: Checkpoint, model_params: ModelParams) -> LoraFactory:
    """A function that gives the embedded model with a LoRA of the given options on it; no matrix of it is zero."""

    def make(**options: Any) -> Vlm:
        vlm = load_vlm(base_model, model_params)
        config = LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": TARGETS, **options})
        return perturbed_and_frozen(replace(vlm, model=get_peft_model(vlm.model, config)))

    return make


def perturbed_and_frozen(vlm: Vlm) -> Vlm:
    """The model with noise added to every B (which starts at 0), in eval mode, with all weights frozen."""
    generator = torch.Generator().manual_seed(0)
    for name, weight in vlm.model.named_parameters():
        if "lora_B" in name:
            weight.data += 0.02 * torch.randn(weight.shape, generator=generator).to(weight)
    vlm.model.requires_grad_(False)
    vlm.model.eval()
    return vlm
