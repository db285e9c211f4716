"""Every sketch keeps inner products in expectation, and gives the same numbers on every machine."""

import numpy as np
import pytest
import torch

from adapt_infinity.features import sketches
from adapt_infinity.features.counter_rng import DrawCache, directions, raw_bits
from adapt_infinity.features.sketches import rademacher, segments

KNOWN = {
    "segments": [[4.0, 11.0, -13.0, -12.0, 14.0]],
    "rademacher": [[22.0, 10.0, 4.0, -4.0, -22.0]],
}


def test_segments_at_full_width_is_a_signed_permutation() -> None:
    """With `dim` equal to the size of the gradient, nothing is added up."""
    gradient = torch.arange(1.0, 7.0).view(1, 2, 3)
    assert sorted(segments.sketch(gradient, "m", 6).abs().flatten().tolist()) == [1, 2, 3, 4, 5, 6]


def test_rademacher_is_an_inner_product_with_each_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    gradient = torch.randn(3, 4, 25, generator=torch.Generator().manual_seed(0))
    signs = directions("m", 100, 0, 7, gradient.device)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    expected = gradient.flatten(1) @ signs.T / 7**0.5
    for block in (1, 250, 10**6):  # so many rows of the matrix in memory at a time: 1, 2, all
        monkeypatch.setattr(rademacher, "BLOCK", block)
        assert torch.allclose(rademacher.sketch(gradient, "m", 7), expected, atol=1e-5)


@pytest.mark.parametrize("name", sketches.names())
def test_the_numbers_never_change(name: str) -> None:
    """Stored rows of many rounds depend on these numbers: if they change, `VERSION` must change."""
    made = sketches.load(name)(torch.arange(1.0, 13.0).view(1, 3, 4), "self_attn.q_proj.lora_B", 5)
    assert (made * (1 if name == "segments" else 5**0.5)).round(decimals=4).tolist() == KNOWN[name]


@pytest.mark.parametrize("dim", [256, 1000])
@pytest.mark.parametrize("name", sketches.names())
def test_inner_products_are_unbiased_with_the_variance_of_a_dense_projection(name: str, dim: int) -> None:
    sketch, size = sketches.load(name), {"segments": 6000, "rademacher": 1500}[name]
    generator = torch.Generator().manual_seed(0)
    left, other = torch.randn(2, 10, size, generator=generator)  # ten pairs, of which each module gives ten numbers
    left = torch.nn.functional.normalize(left)
    other = torch.nn.functional.normalize(other - (other * left).sum(dim=1, keepdim=True) * left)
    true = 0.6
    stacked = torch.cat([left, true * left + 0.8 * other])
    made = [sketch(stacked, f"m{n}", dim) for n in range(30)]
    found = np.concatenate([(one[:10] * one[10:]).sum(dim=1).numpy() for one in made])
    dense = np.sqrt((1 + true**2) / dim)  # standard deviation of a dense projection, for unit vectors
    assert abs(found.mean() - true) <= 3 * dense / np.sqrt(300)
    assert 0.7 <= found.std() / dense <= 1.15  # below 1 where a segment has few numbers


@pytest.mark.parametrize("name", sketches.names())
def test_modules_have_different_sketches_and_rows_do_not_mix(name: str) -> None:
    sketch = sketches.load(name)
    rows = torch.randn(5, 4, 30, generator=torch.Generator().manual_seed(1))
    together = sketch(rows, "a", 16)
    apart = torch.cat([sketch(row.unsqueeze(0), "a", 16) for row in rows])
    assert torch.allclose(together, apart, atol=1e-5)
    assert not torch.allclose(together, sketch(rows, "b", 16))


@pytest.mark.parametrize("name", sketches.names())
def test_a_sketch_is_linear_and_in_fp32_for_any_input(name: str) -> None:
    sketch = sketches.load(name)
    one, other = torch.randn(2, 1, 9, 31, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(
        sketch(3 * one - other, "a", 40), 3 * sketch(one, "a", 40) - sketch(other, "a", 40), atol=1e-5
    )
    half = sketch(one.bfloat16(), "a", 40)
    assert half.dtype == torch.float32
    assert torch.equal(half, sketch(one.bfloat16().float(), "a", 40))


def test_the_permutation_of_a_module_is_computed_once() -> None:
    gradient = torch.randn(2, 9, 31)
    segments.sketch(gradient, "once", 64)
    before = segments._plans.get(("once", 279, gradient.device), lambda: pytest.fail("computed again"))
    segments.sketch(gradient, "once", 128)
    assert segments._plans.get(("once", 279, gradient.device), lambda: pytest.fail("computed again"))[0] is before[0]
    assert [part.dtype for part in before] == [torch.int32, torch.int8]


def test_the_cache_is_limited_in_bytes_and_drops_the_least_recently_used() -> None:
    cache = DrawCache(100)
    made: list[str] = []

    def ask(key: str, size: int = 40) -> None:
        cache.get(key, lambda: (made.append(key), (torch.zeros(size, dtype=torch.uint8),))[1])  # type: ignore[func-returns-value]

    for key in "abaca":  # b is dropped when c is stored, because a was used after it
        ask(key)
    assert "".join(made) == "abc"
    ask("b")
    ask("large", 101)
    ask("large", 101)
    ask("a")
    assert made == ["a", "b", "c", "b", "large", "large"]


def test_raw_bits_are_the_same_on_every_machine() -> None:
    assert raw_bits("words", 2).tolist() == [17789921269468302957, 3615775687138194511]
    assert raw_bits("words", 2, stream=1).tolist() != raw_bits("words", 2).tolist()
    few, many = (directions("m", 70, 0, count, torch.device("cpu")) for count in (3, 9))
    assert torch.equal(few, many[:3]), "a direction depends on its number alone"
    assert torch.equal(directions("m", 70, 4, 2, torch.device("cpu")), many[4:6])
