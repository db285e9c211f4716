"""Merging the adapter into the base weights changes no feature row and no score beyond rounding."""

from dataclasses import replace
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear

from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, load_vlm
from adapt_infinity.model.merging import merge_adapter
from tests.features.conftest import SPEC
from tests.features.test_batch_reading import read
from tests.model.conftest import LoraFactory


def test_merging_keeps_rows_and_scores(with_lora: LoraFactory, rows: list[Any]) -> None:
    vlm, spec = with_lora(), replace(SPEC, layers=(1, 3))
    before = read(vlm, spec, rows)
    merge_adapter(vlm, spec.layers)
    merge_adapter(vlm, spec.layers)
    merged = {name for name, module in vlm.model.named_modules() if isinstance(module, LoraLinear) and module.merged}
    assert len(merged) == 2 * 7 + 2
    assert not any(".layers.1." in name or ".layers.3." in name for name in merged)
    after = read(vlm, spec, rows)
    assert not torch.equal(after.features, before.features)
    assert ((after.features - before.features).norm(dim=1) <= 2e-5 * before.features.norm(dim=1)).all()
    for name, values in before.scores.items():
        assert torch.allclose(after.scores[name], values, rtol=1e-4, atol=1e-5), name


def test_in_half_precision_nothing_is_merged(
    base_model: Checkpoint, model_params: ModelParams, warm_adapter: Any
) -> None:
    vlm = load_vlm(base_model, replace(model_params, dtype="bfloat16"), warm_adapter)
    merge_adapter(vlm, (2,))
    assert not any(module.merged for module in vlm.model.modules() if isinstance(module, LoraLinear))
