"""Vision cache: the same outputs, fewer pictures computed, never more bytes than allowed."""

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


def test_outputs_are_equal_and_each_picture_is_computed_once(
    fresh: Vlm,
    vlm: Vlm,
    samples: list[Sample],
    pictures: Pictures,
) -> None:
    plain = copy_of(fresh)
    cache = cache_vision_outputs(fresh, 8)
    assert cache is not None
    batch = collate([encode(fresh, sample, pictures) for sample in samples], pad_token(fresh))
    pictures_in_batch = len(batch.extras["pixel_values"])
    distinct = len({picture.numpy().tobytes() for picture in batch.extras["pixel_values"]})
    assert distinct < pictures_in_batch
    with torch.no_grad():
        expected = answer_logits(plain, batch)[0]
        for _ in range(2):
            torch.testing.assert_close(answer_logits(fresh, batch)[0], expected)
    assert cache.misses == distinct
    assert cache.hits == 2 * pictures_in_batch - distinct


def copy_of(vlm: Vlm) -> Vlm:
    """A copy of the model, without a cache."""
    from copy import deepcopy

    return Vlm(deepcopy(vlm.model), vlm.processor, vlm.device, vlm.max_tokens)


def test_its_size_is_limited_and_the_least_recently_used_is_dropped(fresh: Vlm) -> None:
    cache = cache_vision_outputs(fresh, 1)
    assert cache is not None
    tower = fresh.base.model.vision_tower
    one = torch.rand(1, 3, 36, 36)
    tower(one, output_hidden_states=True)
    bytes_per_picture = cache.bytes
    for _ in range(2 * 2**20 // bytes_per_picture):
        tower(torch.rand(1, 3, 36, 36), output_hidden_states=True)
    assert 0 < cache.bytes <= 2**20
    before = cache.misses
    tower(one, output_hidden_states=True)
    assert cache.misses == before + 1


def test_a_trainable_or_missing_tower_is_not_cached(vlm: Vlm, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert cache_vision_outputs(Vlm(nn.Linear(2, 2), None, torch.device("cpu"), 9), 8) is None
    assert "no module of the name vision_tower" in caplog.text
