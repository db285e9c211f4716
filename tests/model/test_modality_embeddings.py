"""Modality embeddings: each modality has its own vector, and neither the batch nor the adapter changes it."""

from types import SimpleNamespace

import pytest
import torch

from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import Sample, Turn
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, Vlm, load_vlm
from adapt_infinity.model.lora import Adapter
from adapt_infinity.model.modality_embeddings import MODALITIES, _adapter_switched_off, _masks, embed_modalities
from adapt_infinity.model.prompts import Encoded, collate, encode


def test_each_vector_is_the_mean_over_its_positions_of_the_decoder_input(vlm: Vlm, pictures: Pictures) -> None:
    sample = Sample(0, "toy", "s", "", ("p0.png",), (Turn("user", "<image>\nWhat?"), Turn("assistant", "Noise.")))
    row = encode(vlm, sample, pictures)
    found = embed_modalities(vlm, [row], 1000)
    with torch.no_grad(), _adapter_switched_off(vlm):
        words = vlm.base.get_input_embeddings()(row.input_ids)
        projected = vlm.base.model.get_image_features(pixel_values=row.extras["pixel_values"]).pooler_output
    is_image = row.input_ids == vlm.base.config.image_token_id
    assert torch.allclose(found.answer[0], words[row.answers].mean(dim=0), atol=1e-6)
    assert torch.allclose(found.instruction[0], words[~is_image & ~row.answers].mean(dim=0), atol=1e-6)
    assert torch.allclose(found.image[0], torch.cat(list(projected)).mean(dim=0), atol=1e-5)


def test_the_batch_and_its_padding_change_nothing(vlm: Vlm, rows: list[Encoded]) -> None:
    together, alone = embed_modalities(vlm, rows, 10_000), embed_modalities(vlm, rows, 1)
    for name in MODALITIES:
        assert torch.allclose(getattr(together, name), getattr(alone, name), atol=1e-5)
    for count in range(1, len(rows)):
        few = embed_modalities(vlm, rows[:count], 10_000)
        for name in MODALITIES:
            assert torch.allclose(getattr(together, name)[:count], getattr(few, name), atol=1e-5)


def test_a_sample_without_pictures_has_zeros_for_its_image(vlm: Vlm, rows: list[Encoded]) -> None:
    found = embed_modalities(vlm, rows, 10_000)
    has_image = torch.tensor(["pixel_values" in row.extras for row in rows])
    assert ((found.image.abs().sum(dim=1) > 0) == has_image).all()
    assert 0 < has_image.sum() < len(rows)
    assert torch.allclose(found.means()["image"], found.image[has_image].mean(dim=0))


def test_the_adapter_has_no_influence(
    vlm: Vlm, base_model: Checkpoint, model_params: ModelParams, rows: list[Encoded]
) -> None:
    """The projector has a LoRA, too, and a task's vectors must not change with what was trained."""
    plain = embed_modalities(load_vlm(base_model, model_params), rows, 10_000)
    adapted = embed_modalities(vlm, rows, 10_000)
    assert torch.allclose(plain.image, adapted.image, atol=1e-6)


def test_the_model_stays_as_it_was(vlm: Vlm, rows: list[Encoded], warm_adapter: Adapter) -> None:
    hooks = len(vlm.layers[0]._forward_pre_hooks)
    embed_modalities(vlm, rows, 10_000)
    assert len(vlm.layers[0]._forward_pre_hooks) == hooks
    assert not any(weight.requires_grad for weight in vlm.model.parameters())
    assert not vlm.model.base_model.model.model.language_model.layers[0].self_attn.q_proj.disable_adapters


def test_a_config_without_an_image_token_is_refused(rows: list[Encoded]) -> None:
    nameless = Vlm(SimpleNamespace(config=SimpleNamespace()), None, torch.device("cpu"), 64)
    with pytest.raises(ValueError, match="config has no image_token_id"):
        _masks(nameless, collate([row for row in rows if row.extras], 0))
