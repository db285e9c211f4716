"""Rendered pictures of the embedded stream agree with their descriptions."""

import numpy as np
import pytest

from adapt_infinity.embedded.scenes import COLOURS, SHAPES, SIZES, Chart, Scene, Thing, draw_scene, render, stencil


def test_box_by_hand() -> None:
    """Cell 5 is the middle of the right edge: the last third in x, the second third in y."""
    assert Thing("red", "circle", "small", 5).box == pytest.approx((2 / 3, 1 / 3, 1, 2 / 3))


@pytest.mark.parametrize("size", SIZES)
def test_box_contains_the_shape(size: str) -> None:
    """All pixels of a shape lie in its cell, for every random offset."""
    thing = Thing("black", "square", size, 5)
    for seed in range(30):
        dark = render(Scene((thing,)), np.random.default_rng(seed)).max(axis=-1) < 100
        rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
        assert dark.any()
        assert thing.box[0] * 36 <= columns[0] <= columns[-1] < thing.box[2] * 36
        assert thing.box[1] * 36 <= rows[0] <= rows[-1] < thing.box[3] * 36


def test_shapes_differ() -> None:
    """No two shapes cover the same pixels, at either size."""
    for size in SIZES:
        assert len({stencil(shape, size).tobytes() for shape in SHAPES}) == len(SHAPES)


def test_bar_heights_by_hand() -> None:
    """A bar has eleven pixels per unit of height, above the ground line."""
    pixels = render(Chart(("black", "black", "black"), (1, 2, 3)), np.random.default_rng(0)).max(axis=-1)
    assert [int((pixels[:34, column] < 100).sum()) for column in (6, 18, 30)] == [11, 22, 33]


def test_same_seed_same_pixels() -> None:
    """The same seed gives the same pixels, and another seed other pixels."""
    scene = draw_scene(np.random.default_rng(0), 2, 4)
    one, again, other = (render(scene, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_scenes_are_unambiguous() -> None:
    """No cell, colour or shape occurs twice; shapes are in reading order."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        things = draw_scene(rng, 1, 5).things
        cells = [thing.cell for thing in things]
        assert cells == sorted(set(cells))
        assert len({thing.colour for thing in things}) == len({thing.shape for thing in things}) == len(things)
        assert all(thing.colour in COLOURS for thing in things)
