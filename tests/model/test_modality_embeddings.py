"""What a sample shows, asks and answers: read apart, each by itself, the same in any company."""

import pytest
import torch

from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import Sample, Turn, samples_of
from adapt_infinity.intake.reading import Source
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, Vlm, load_vlm
from adapt_infinity.model.lora import Adapter
from adapt_infinity.model.modality_embeddings import PARTS, embed_modalities
from adapt_infinity.model.prompts import Encoded, encode
from tests.conftest import checked


@pytest.fixture(scope="module")
def rows(vlm: Vlm, toy_source: Source, pictures: Pictures) -> list[Encoded]:
    return [encode(vlm, sample, pictures) for sample in samples_of(checked(toy_source, pictures)[0])]


def test_each_part_is_the_mean_of_what_the_language_model_is_given(vlm: Vlm, pictures: Pictures) -> None:
    sample = Sample(0, "toy", "s", "", ("p0.png",), (Turn("user", "<image>\nWhat?"), Turn("assistant", "Noise.")))
    row = encode(vlm, sample, pictures)
    parts = embed_modalities(vlm, [row], 1000)
    with torch.no_grad(), vlm.model.disable_adapter():
        words = vlm.base.get_input_embeddings()(row.input_ids)
        seen = vlm.base.model.get_image_features(pixel_values=row.extras["pixel_values"]).pooler_output
    picture = row.input_ids == vlm.base.config.image_token_id
    assert torch.allclose(parts.answer[0], words[row.answers].mean(dim=0), atol=1e-6)
    assert torch.allclose(parts.instruction[0], words[~picture & ~row.answers].mean(dim=0), atol=1e-6)
    assert torch.allclose(parts.image[0], torch.cat(list(seen)).mean(dim=0), atol=1e-5)


def test_company_and_padding_change_nothing(vlm: Vlm, rows: list[Encoded]) -> None:
    together, alone = embed_modalities(vlm, rows, 10_000), embed_modalities(vlm, rows, 1)
    for part in PARTS:
        assert torch.allclose(getattr(together, part), getattr(alone, part), atol=1e-5)


def test_a_sample_without_pictures_has_no_image(vlm: Vlm, rows: list[Encoded]) -> None:
    parts = embed_modalities(vlm, rows, 10_000)
    shown = torch.tensor(["pixel_values" in row.extras for row in rows])
    assert ((parts.image.abs().sum(dim=1) > 0) == shown).all()
    assert 0 < shown.sum() < len(rows)
    assert torch.allclose(parts.means()["image"], parts.image[shown].mean(dim=0))


def test_no_adapter_takes_part(
    vlm: Vlm, base_model: Checkpoint, model_params: ModelParams, rows: list[Encoded]
) -> None:
    """The projector has LoRA too: what a task looks like must not change with what was learned."""
    plain = embed_modalities(load_vlm(base_model, model_params), rows, 10_000)
    ours = embed_modalities(vlm, rows, 10_000)
    assert torch.allclose(plain.image, ours.image, atol=1e-6)


def test_the_model_is_as_it_was(vlm: Vlm, rows: list[Encoded], warm_adapter: Adapter) -> None:
    hooks = len(vlm.layers[0]._forward_pre_hooks)
    embed_modalities(vlm, rows, 10_000)
    assert len(vlm.layers[0]._forward_pre_hooks) == hooks
    assert not vlm.model.base_model.model.model.language_model.layers[0].self_attn.q_proj.disable_adapters
