"""The sketch keeps inner products, and is the same everywhere."""

import numpy as np
import pytest
import torch

from adapt_infinity.probe.sketches.segments import sketch


def test_by_hand_at_full_width_nothing_is_lost() -> None:
    """With as many places as numbers, the sketch is a signed permutation."""
    gradient = torch.arange(1.0, 7.0).view(1, 2, 3)
    assert sorted(sketch(gradient, "m", 6).abs().flatten().tolist()) == [1, 2, 3, 4, 5, 6]


def test_known_values_for_ever() -> None:
    """The stored rows of a hundred rounds depend on these numbers: a new spec needs a new version."""
    made = sketch(torch.arange(1.0, 13.0).view(1, 3, 4), "self_attn.q_proj.lora_B", 5)
    assert made.tolist() == GOLDEN


@pytest.mark.parametrize("dim", [256, 1000])
def test_inner_products_are_unbiased_with_the_spread_of_a_dense_projection(dim: int) -> None:
    draw = torch.Generator().manual_seed(0)
    left = torch.randn(1, 6000, generator=draw)
    right = 0.6 * left + 0.8 * torch.randn(1, 6000, generator=draw)
    left, right = left / left.norm(), right / right.norm()
    true = (left * right).sum().item()
    seen = np.array([(sketch(left, f"m{n}", dim) * sketch(right, f"m{n}", dim)).sum().item() for n in range(300)])
    dense = np.sqrt((1 + true**2) / dim)  # of a Rademacher projection, for unit vectors
    assert abs(seen.mean() - true) <= 3 * dense / np.sqrt(300)
    assert 0.7 <= seen.std() / dense <= 1.15  # below 1 where few numbers share a place: they never collide twice


def test_modules_are_independent_and_rows_do_not_mix() -> None:
    rows = torch.randn(5, 4, 30, generator=torch.Generator().manual_seed(1))
    together = sketch(rows, "a", 16)
    apart = torch.cat([sketch(row.unsqueeze(0), "a", 16) for row in rows])
    assert torch.equal(together, apart)
    assert not torch.allclose(together, sketch(rows, "b", 16))


GOLDEN = [[4.0, 11.0, -13.0, -12.0, 14.0]]
