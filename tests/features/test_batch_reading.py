"""What holds for every kind of feature: the batch changes nothing, numbers equal autograd's, nothing is left out."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import IGNORED_LABEL, samples_of
from adapt_infinity.features import gradients, scores, sketches
from adapt_infinity.features.batch_reading import BatchReading, read_batch, read_losses
from adapt_infinity.features.capture import probed_weights
from adapt_infinity.features.spec import Spec
from adapt_infinity.features.zero_order import loss_differences
from adapt_infinity.intake.reading import Source
from adapt_infinity.model.checkpoint import Batch, Checkpoint, ModelParams, Vlm, answer_logits, load_vlm, new_adapter
from adapt_infinity.model.lora import Adapter
from adapt_infinity.model.prompts import collate, encode, pad_token
from tests.conftest import checked, llava
from tests.features.conftest import SPEC, layer_of
from tests.features.test_capture import autograd, batched_gradients
from tests.model.conftest import LoraFactory

STEPS = 20


def plausible_moments(vlm: Vlm) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Adam's moments of the size that a short training gives."""
    generator = torch.Generator().manual_seed(3)
    return {
        name: (
            1e-2 * torch.randn(weight.shape, generator=generator),
            1e-3 * torch.rand(weight.shape, generator=generator) + 1e-5,
        )
        for name, weight in probed_weights(vlm, range(4)).items()
    }


def read(vlm: Vlm, spec: Spec, rows: Sequence[Any], side: str = "right") -> BatchReading:
    nll_without_image = np.linspace(1, 2, len(rows))
    nll_without_image[0] = np.nan
    moments = plausible_moments(vlm) if spec.gradient == "adam" else None
    return read_batch(vlm, collate(rows, pad_token(vlm), side), nll_without_image, spec, moments, STEPS)


@pytest.fixture(scope="session")
def half_vlm(base_model: Checkpoint, model_params: ModelParams, warm_adapter: Adapter) -> Vlm:
    return load_vlm(base_model, replace(model_params, dtype="bfloat16"), warm_adapter)


EVERY = [
    replace(SPEC, gradient=gradient, sketch=sketch, layers=layers)
    for gradient, sketch, layers in itertools.product(gradients.names(), sketches.names(), [(2,), (0, 1, 2, 3)])
] + [replace(SPEC, feature="embedding")]
SPECS = [  # as parameters of a test: those with gradients of several layers are slow, except for plain ones
    pytest.param(spec, marks=pytest.mark.slow if len(spec.layers) > 1 and spec.gradient != "sgd" else ())
    for spec in EVERY
]


def spec_name(spec: Spec) -> str:
    return f"{spec.feature}-{spec.gradient}-{spec.sketch}-{len(spec.layers)}"


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("spec", SPECS, ids=spec_name)
def test_a_row_is_the_same_alone_and_in_a_batch(vlm: Vlm, rows: list[Any], spec: Spec, side: str) -> None:
    """A sign can flip where an entry is rounding noise around zero: for `sign`, only the direction is compared."""
    many = read(vlm, spec, rows, side)
    for place in (1, 7):
        alone = read(vlm, spec, [rows[0], rows[place]], side) if side == "left" else read(vlm, spec, [rows[place]])
        one = alone.features[-1]
        if spec.gradient == "sign":
            assert torch.cosine_similarity(one, many.features[place], dim=0) >= 0.999
        else:
            assert (one - many.features[place]).norm() <= 1e-5 * one.norm()
        assert torch.allclose(alone.embeddings[-1], many.embeddings[place], rtol=1e-4, atol=1e-5)
        for name in set(alone.scores) - {"image_grounding"}:
            assert alone.scores[name][-1].item() == pytest.approx(many.scores[name][place].item(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("spec", SPECS, ids=spec_name)
def test_rows_in_half_precision_keep_their_direction(vlm: Vlm, half_vlm: Vlm, rows: list[Any], spec: Spec) -> None:
    """For `sign` the limits are lower: small entries are noise in half precision, and every entry counts equally."""
    whole, many = read(vlm, spec, rows[:4]).features, read(half_vlm, spec, rows[:4]).features
    alone = torch.cat([read(half_vlm, spec, [row]).features for row in rows[:2]])
    to_fp32, to_batch = (0.9, 0.9) if spec.gradient == "sign" else (0.995, 0.99)
    assert torch.cosine_similarity(many, whole).min() >= to_fp32
    assert torch.cosine_similarity(alone, many[:2]).min() >= to_batch


@pytest.mark.parametrize("spec", SPECS[:-1], ids=spec_name)  # the last one has no gradient
def test_a_row_is_the_sketch_of_the_autograd_gradient(vlm: Vlm, rows: list[Any], spec: Spec) -> None:
    prepare, sketch = gradients.load(spec.gradient), sketches.load(spec.sketch)
    moments = plausible_moments(vlm)
    exact = autograd(vlm, spec.layers, collate([rows[4]], pad_token(vlm)))
    expected = sum(
        sketch(prepare(gradient.unsqueeze(0), moments[name], STEPS), name, spec.dim) for name, gradient in exact.items()
    )
    reading = read(vlm, spec, rows[3:6])
    assert isinstance(expected, torch.Tensor)
    assert torch.cosine_similarity(reading.features[1:2], expected).item() >= (
        0.999 if spec.gradient == "sign" else 1 - 1e-6
    )
    if spec.gradient != "sign":
        assert (reading.features[1] - expected[0]).norm() <= 1e-5 * expected.norm()
    plain = torch.cat([gradient.flatten() for gradient in exact.values()]).norm().item()
    assert reading.scores["grand"][1].item() == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize("sketch", sketches.names())
def test_rows_add_up_to_the_sketch_of_the_summed_loss(vlm: Vlm, rows: list[Any], sketch: str) -> None:
    spec = replace(SPEC, sketch=sketch, layers=(1, 2))
    exact = autograd(vlm, spec.layers, collate(rows, pad_token(vlm)))
    expected = sum(sketches.load(sketch)(exact[name].unsqueeze(0), name, spec.dim) for name in exact)
    assert torch.allclose(read(vlm, spec, rows).features.sum(dim=0), expected[0], rtol=1e-4, atol=1e-4)  # type: ignore[index]


def test_layers_and_modules_add_up(vlm: Vlm, rows: list[Any]) -> None:
    one, other, both = (read(vlm, replace(SPEC, layers=layers), rows[:3]) for layers in ((1,), (3,), (1, 3)))
    assert torch.allclose(both.features, one.features + other.features, atol=1e-5)
    squares = one.scores["grand"] ** 2 + other.scores["grand"] ** 2
    assert torch.allclose(both.scores["grand"], squares.sqrt(), rtol=1e-5)


def test_scores_equal_those_of_a_plain_forward_pass(vlm: Vlm, rows: list[Any]) -> None:
    """The scores are computed here one by one, from the softmax."""
    with torch.no_grad():
        logits, labels = answer_logits(vlm, collate(rows[:4], pad_token(vlm)))
    found = read(vlm, SPEC, rows[:4]).scores
    assert set(found) == {*scores.names(), "answer_tokens", "tokens"}
    for row in range(4):
        answer = labels[row] != IGNORED_LABEL
        answer_logits_of_row, words = logits[row][answer], labels[row][answer]
        p = answer_logits_of_row.softmax(dim=-1)
        nll = torch.nn.functional.cross_entropy(answer_logits_of_row, words).item()
        error = p - torch.nn.functional.one_hot(words, p.shape[-1])
        assert found["answer_tokens"][row] == answer.sum()
        assert found["nll"][row].item() == pytest.approx(nll, rel=1e-5)
        assert found["perplexity"][row].item() == pytest.approx(np.exp(nll), rel=1e-4)
        assert found["el2n"][row].item() == pytest.approx(error.norm(dim=-1).mean().item(), rel=1e-4)
        assert found["entropy"][row].item() == pytest.approx(-(p * p.log()).sum(-1).mean().item(), rel=1e-4)
        expected = np.linspace(1, 2, 4)[row] - nll if row else 0.0
        assert found["image_grounding"][row].item() == pytest.approx(expected, abs=1e-5)


def test_the_softmax_is_computed_once(monkeypatch: pytest.MonkeyPatch, vlm: Vlm, rows: list[Any]) -> None:
    calls: list[str] = []
    softmax = torch.log_softmax

    def counted(*args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append("log")
        return softmax(*args, **kwargs)

    monkeypatch.setattr(torch, "log_softmax", counted)
    monkeypatch.setattr(torch, "softmax", lambda *_args, **_kwargs: pytest.fail("a second softmax"))
    read(vlm, SPEC, rows[:2])
    assert calls == ["log"]


def test_features_without_gradients_have_no_gradient_norm_and_record_no_graph(vlm: Vlm, rows: list[Any]) -> None:
    with_gradient = read(vlm, SPEC, rows[:3])
    recorded: list[bool] = []
    handle = vlm.layers[3].register_forward_hook(lambda _module, _args, out: recorded.append(out.requires_grad))
    embedding = read(vlm, replace(SPEC, feature="embedding"), rows[:3])
    zero_order = read(vlm, replace(SPEC, feature="zero_order", dim=2), rows[:3])
    handle.remove()
    assert not any(recorded)
    assert torch.equal(embedding.features, embedding.embeddings)
    for reading in (embedding, zero_order):
        assert set(with_gradient.scores) - set(reading.scores) == {"grand"}
        assert torch.allclose(reading.embeddings, with_gradient.embeddings, atol=1e-5)
        for name, values in reading.scores.items():
            assert torch.allclose(values, with_gradient.scores[name], rtol=1e-4, atol=1e-5)


def test_the_embedding_is_the_mean_over_text_tokens(vlm: Vlm, rows: list[Any]) -> None:
    row = rows[2]
    with torch.no_grad():
        hidden = vlm.model(
            **collate([row], pad_token(vlm)).inputs(vlm.device), output_hidden_states=True
        ).hidden_states[2]
    is_text = row.input_ids != vlm.base.config.image_token_id
    assert 0 < is_text.sum() < len(row)
    made = read(vlm, replace(SPEC, embedding_layer=1), [rows[0], row]).embeddings[1]
    assert torch.allclose(made, hidden[0][is_text].mean(dim=0), atol=1e-5)


def test_the_weights_without_gradient_of_a_fresh_adapter_are_named(
    base_model: Checkpoint,
    model_params: ModelParams,
    vlm: Vlm,
    rows: list[Any],
) -> None:
    """B is 0, so the gradient of every A is 0."""
    fresh = load_vlm(base_model, model_params, new_adapter(load_vlm(base_model, model_params), model_params, seed=0))
    zero = read(fresh, SPEC, rows[:3]).zero_gradient
    assert len(zero) == 7
    assert all(name.startswith("2.") and name.endswith(".lora_A") for name in zero)
    assert read(vlm, SPEC, rows[:3]).zero_gradient == ()


def test_rows_without_an_answer_are_named(vlm: Vlm, rows: list[Any]) -> None:
    batch = collate(rows[:4], pad_token(vlm))
    batch.labels[2] = IGNORED_LABEL
    batch.labels[3] = IGNORED_LABEL
    batch.labels[3, 0] = 5  # the first token: nothing predicts it
    for feature in ("gradient", "zero_order", "embedding"):
        with pytest.raises(ValueError, match=r"no answer token in rows \[2, 3\]"):
            read_batch(vlm, batch, np.full(4, np.nan), replace(SPEC, feature=feature))
    without_answer = replace(rows[1], answers=torch.zeros_like(rows[1].answers))
    with pytest.raises(ValueError, match=r"no answer token in rows \[1\]"):
        read_losses(vlm, collate([rows[0], without_answer], pad_token(vlm)))


def test_losses_without_images_of_another_batch_are_refused(vlm: Vlm, rows: list[Any]) -> None:
    with pytest.raises(ValueError, match="nll_without_image has 3 rows, and the batch has 2"):
        read_batch(vlm, collate(rows[:2], pad_token(vlm)), np.full(3, np.nan), SPEC)


def test_adam_without_moments_says_what_to_do(vlm: Vlm, rows: list[Any]) -> None:
    with pytest.raises(ValueError, match="train it once with this version"):
        read_batch(vlm, collate(rows[:2], pad_token(vlm)), np.full(2, np.nan), replace(SPEC, gradient="adam"))


def test_the_global_generator_and_the_weights_stay_as_they_were(vlm: Vlm, rows: list[Any]) -> None:
    before, weights = torch.random.get_rng_state(), {n: w.clone() for n, w in vlm.model.named_parameters()}
    for feature in ("gradient", "zero_order", "embedding"):
        read(vlm, replace(SPEC, feature=feature, dim=3), rows[:2])
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(weights[name], weight) for name, weight in vlm.model.named_parameters())
    assert not any(weight.requires_grad for weight in vlm.model.parameters())


# Zero order


def test_zero_order_features_approximate_the_rademacher_sketch(vlm: Vlm, rows: list[Any]) -> None:
    for layers in ((2,), (0, 1)):
        spec = replace(SPEC, layers=layers, dim=24, sketch="rademacher")
        exact = read(vlm, spec, rows[:4]).features * spec.dim**0.5
        differences = read(vlm, replace(spec, feature="zero_order"), rows[:4]).features
        for one, other in zip(exact, differences, strict=True):
            assert np.corrcoef(one, other)[0, 1] >= 0.999
            assert (one - other).norm() <= 0.05 * one.norm()


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_zero_order_row_is_similar_alone_and_in_a_batch(vlm: Vlm, rows: list[Any], side: str) -> None:
    """Dividing a difference of losses by 2ε multiplies their rounding errors by 1/2ε, so few digits agree."""
    spec = replace(SPEC, feature="zero_order", dim=12)
    many, alone = read(vlm, spec, rows[:5], side).features[4], read(vlm, spec, rows[4:5]).features[0]
    assert (many - alone).norm() <= 1e-2 * alone.norm()


def test_zero_order_restores_the_weights_even_after_an_error(with_lora: LoraFactory, rows: list[Any]) -> None:
    vlm = with_lora()
    before = {name: weight.clone() for name, weight in vlm.model.named_parameters()}
    calls: list[int] = []

    def fail(_module: Any, _args: Any, _output: Any) -> None:
        calls.append(1)
        if len(calls) == 4:
            assert not torch.equal(next(iter(probed_weights(vlm, (2,)).values())), before[probed_name])
            raise RuntimeError("stop")

    probed_name = next(
        n for n, w in vlm.model.named_parameters() if w is next(iter(probed_weights(vlm, (2,)).values()))
    )
    handle = vlm.layers[3].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="stop"):
        loss_differences(vlm, collate(rows[:2], pad_token(vlm)), (2,), 5)
    handle.remove()
    assert all(torch.equal(before[name], weight) for name, weight in vlm.model.named_parameters())
    assert not any("forward" in vars(layer) or layer._forward_pre_hooks or layer._forward_hooks for layer in vlm.layers)


def test_zero_order_computes_lower_layers_once(vlm: Vlm, rows: list[Any]) -> None:
    calls: list[int] = []
    handles = [
        layer_of(vlm, number).mlp.register_forward_pre_hook(lambda _module, _args, number=number: calls.append(number))
        for number in range(4)
    ]
    loss_differences(vlm, collate(rows[:2], pad_token(vlm)), (2,), 3)
    for handle in handles:
        handle.remove()
    assert [calls.count(number) for number in range(4)] == [1, 1, 7, 7]


def test_zero_order_is_refused_in_half_precision(half_vlm: Vlm, rows: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"needs model\.dtype=float32"):
        read(half_vlm, replace(SPEC, feature="zero_order"), rows[:2])


# Clusters


def test_sketched_and_exact_gradients_give_the_same_clusters(vlm: Vlm, pictures: Pictures) -> None:
    """The adjusted Rand index is at least 0.95, on gradients of the embedded model (docs/performance.md)."""
    numbers = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "red", "blue"]
    skills = [
        lambda word: ("What colour is the circle?", f"The circle is {word}."),
        lambda word: (f"Translate {word} into Chinese.", "很多颜色"),
        lambda word: (f"How many {word} squares are there?", "3"),
        lambda word: (f"Say no to {word}.", "no"),
        lambda word: ("Where is it? Give a box.", f"[0.{len(word)}0, 0.25, 0.75, 0.50]"),
    ]
    records = [llava(f"{n}-{word}", skill(word)) for n, skill in enumerate(skills) for word in numbers]
    source = Source("toy", "llava", records, {"talk": "exact"})
    encoded = [encode(vlm, sample, pictures) for sample in samples_of(checked(source, pictures)[0])]
    batch = collate(encoded, pad_token(vlm))
    made = {
        name: read_batch(vlm, batch, np.full(60, np.nan), replace(SPEC, sketch=name)).features
        for name in sketches.names()
    }
    exact = batched_gradients(vlm, (2,), batch)
    made["exact"] = torch.cat([exact[name].flatten(1) for name in sorted(exact)], dim=1)
    labels = {
        name: KMeans(5, n_init=10, random_state=0).fit_predict(torch.nn.functional.normalize(features).numpy())
        for name, features in made.items()
    }
    for name in sketches.names():
        assert adjusted_rand_score(labels[name], labels["exact"]) >= 0.95, name


def test_the_batch_is_not_changed(vlm: Vlm, rows: list[Any]) -> None:
    batch: Batch = collate(rows[:2], pad_token(vlm))
    before = batch.labels.clone()
    read_batch(vlm, batch, np.full(2, np.nan), SPEC)
    assert torch.equal(batch.labels, before)
