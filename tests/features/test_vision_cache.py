"""The vision tower's memory: the same outputs, fewer pictures computed, never more bytes than allowed."""

import pytest
import torch
from torch import nn

from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import Sample
from adapt_infinity.features.vision_cache import cache_vision_outputs
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, Vlm, answer_logits, load_vlm
from adapt_infinity.model.prompts import collate, encode, pad_token


@pytest.fixture
def fresh(base_model: Checkpoint, model_params: ModelParams) -> Vlm:
    return load_vlm(base_model, model_params)


def test_outputs_are_equal_and_a_picture_is_computed_once(
    fresh: Vlm,
    vlm: Vlm,
    samples: list[Sample],
    pictures: Pictures,
) -> None:
    plain = load_vlm_like(fresh)
    memory = cache_vision_outputs(fresh, 8)
    assert memory is not None
    batch = collate([encode(fresh, sample, pictures) for sample in samples], pad_token(fresh))
    shown = len(batch.extras["pixel_values"])
    distinct = len({picture.numpy().tobytes() for picture in batch.extras["pixel_values"]})
    assert distinct < shown
    with torch.no_grad():
        expected = answer_logits(plain, batch)[0]
        for _ in range(2):
            torch.testing.assert_close(answer_logits(fresh, batch)[0], expected)
    assert memory.misses == distinct
    assert memory.hits == 2 * shown - distinct


def load_vlm_like(vlm: Vlm) -> Vlm:
    """The same weights without a memory."""
    from copy import deepcopy

    return Vlm(deepcopy(vlm.model), vlm.processor, vlm.device, vlm.max_tokens)


def test_it_is_bounded_and_forgets_the_longest_unused(fresh: Vlm) -> None:
    memory = cache_vision_outputs(fresh, 1)
    assert memory is not None
    tower = fresh.base.model.vision_tower
    one = torch.rand(1, 3, 36, 36)
    tower(one, output_hidden_states=True)
    each = memory.bytes
    for _ in range(2 * 2**20 // each):
        tower(torch.rand(1, 3, 36, 36), output_hidden_states=True)
    assert 0 < memory.bytes <= 2**20
    before = memory.misses
    tower(one, output_hidden_states=True)
    assert memory.misses == before + 1


def test_a_tower_that_learns_or_is_not_there_is_left_alone(vlm: Vlm, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert cache_vision_outputs(Vlm(nn.Linear(2, 2), None, torch.device("cpu"), 9), 8) is None
    assert "no part of the name vision_tower" in caplog.text
