"""Pictures of the embedded stream: 36 x 36 pixels, which the embedded model sees as a 3 x 3 grid of patches.

A picture is first a description (which shape is in which cell) and then pixels. Questions are asked about the
description. `render` turns it into pixels with random offsets and tints, so that rendering one description twice gives
two near-duplicates, not the same picture.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, UInt8
from sklearn.datasets import load_digits

SIDE = 36  # pixels
CELL = 12  # pixels; also the side of a patch of the embedded model's vision tower
GRID = SIDE // CELL  # cells per side

COLOURS = {
    "red": (215, 35, 35),
    "green": (30, 150, 45),
    "blue": (40, 70, 225),
    "yellow": (240, 205, 20),
    "purple": (145, 40, 175),
    "black": (20, 20, 20),
}
SHAPES = ("circle", "square", "triangle", "cross", "ring")
SIZES = {"small": 6, "large": 10}  # pixels across
PLACES = (
    "top left",
    "top centre",
    "top right",
    "middle left",
    "centre",
    "middle right",
    "bottom left",
    "bottom centre",
    "bottom right",
)
HEIGHTS = 3  # the height of a bar is 1 to 3
STEP = 11  # pixels per unit of height
DIGIT_ROWS = {"train": (0, 1197), "design": (1197, 1497), "test": (1497, 1797)}  # rows of scikit-learn's digits


@dataclass(frozen=True)
class Thing:
    """One shape in one cell of the grid."""

    colour: str
    shape: str
    size: str
    cell: int  # 0 to 8 in reading order

    @property
    def name(self) -> str:
        """Colour and shape, such as "red circle"."""
        return f"{self.colour} {self.shape}"

    @property
    def place(self) -> str:
        """The cell in words, such as "top left"."""
        return PLACES[self.cell]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The cell's bounding box [x1, y1, x2, y2] in shares of the picture's sides; it ignores the shape's size."""
        left, top = self.cell % GRID, self.cell // GRID
        return left / GRID, top / GRID, (left + 1) / GRID, (top + 1) / GRID


@dataclass(frozen=True)
class Scene:
    """Shapes in different cells, in reading order."""

    things: tuple[Thing, ...]


@dataclass(frozen=True)
class Chart:
    """A chart of three bars, from left to right; heights from 1 to `HEIGHTS`."""

    colours: tuple[str, str, str]
    heights: tuple[int, int, int]


@dataclass(frozen=True)
class Handwriting:
    """Real handwritten digits: rows of scikit-learn's `load_digits`, and the cell of each."""

    rows: tuple[int, ...]
    cells: tuple[int, ...]


Picture = Scene | Chart | Handwriting


@cache
def stencil(shape: str, size: str) -> Bool[np.ndarray, "across across"]:
    """The pixels that a shape covers within its own square of 6 or 10 pixels."""
    across = SIZES[size]
    y, x = (np.mgrid[:across, :across] + 0.5) / across * 2 - 1  # from -1 to 1
    inside = {
        "circle": x**2 + y**2 <= 1,
        "square": np.ones_like(x, dtype=bool),
        "triangle": np.abs(x) <= (y + 1) / 2,
        "cross": (np.abs(x) <= 0.34) | (np.abs(y) <= 0.34),
        "ring": (x**2 + y**2 <= 1.05) & (x**2 + y**2 >= 0.36),
    }
    return inside[shape]


@cache
def digits() -> tuple[Float[np.ndarray, "n 8 8"], np.ndarray]:
    """Scikit-learn's handwritten digits: ink from 0 to 1, and the digit of each image."""
    bunch = load_digits()
    return bunch.images / 16.0, bunch.target


def draw_background(rng: np.random.Generator) -> Float[np.ndarray, "36 36 3"]:
    """A picture of one light colour, not rounded to integers yet."""
    canvas = np.empty((SIDE, SIDE, 3))
    canvas[:] = rng.uniform(195, 250) + rng.uniform(-8, 8, 3)
    return canvas


def render(picture: Picture, rng: np.random.Generator) -> UInt8[np.ndarray, "36 36 3"]:
    """Render a picture; background, tints and offsets (up to one pixel) are drawn from `rng`."""
    canvas = draw_background(rng)
    match picture:
        case Scene(things):
            for thing in things:
                across = SIZES[thing.size]
                slack = (CELL - across) // 2
                dy, dx = rng.integers(-1, 2, 2)
                top = CELL * (thing.cell // GRID) + slack + dy
                left = CELL * (thing.cell % GRID) + slack + dx
                tint = np.array(COLOURS[thing.colour]) + rng.uniform(-15, 15, 3)
                canvas[top : top + across, left : left + across][stencil(thing.shape, thing.size)] = tint
        case Chart(colours, heights):
            for column, (colour, height) in enumerate(zip(colours, heights, strict=True)):
                left = CELL * column + 2 + rng.integers(-1, 2)
                tint = np.array(COLOURS[colour]) + rng.uniform(-15, 15, 3)
                canvas[SIDE - 2 - STEP * height : SIDE - 2, left : left + 8] = tint
            canvas[SIDE - 2 :] = 60
        case Handwriting(rows, cells):
            ink, _ = digits()
            for row, cell in zip(rows, cells, strict=True):
                top, left = CELL * (cell // GRID) + 2, CELL * (cell % GRID) + 2
                canvas[top : top + 8, left : left + 8] *= 1 - 0.9 * ink[row][..., None]
    return canvas.clip(0, 255).astype(np.uint8)


def draw_scene(
    rng: np.random.Generator,
    low: int,
    high: int,
    *,
    cells: tuple[int, ...] = tuple(range(GRID**2)),
    distinct_colours: bool = True,
    distinct_shapes: bool = True,
) -> Scene:
    """Draw a scene of `low` to `high` shapes in different cells of `cells`.

    No colour and no shape occurs twice, unless `distinct_colours` or `distinct_shapes` is False.
    """
    count = int(rng.integers(low, high + 1))
    where = sorted(int(cell) for cell in rng.choice(cells, count, replace=False))
    colours = rng.choice(list(COLOURS), count, replace=not distinct_colours)
    shapes = rng.choice(SHAPES, count, replace=not distinct_shapes)
    sizes = rng.choice(list(SIZES), count)
    return Scene(
        tuple(
            Thing(str(colour), str(shape), str(size), cell)
            for colour, shape, size, cell in zip(colours, shapes, sizes, where, strict=True)
        )
    )


def draw_handwriting(
    rng: np.random.Generator, split: str, cells: tuple[int, ...], among: tuple[int, ...] = tuple(range(10))
) -> Handwriting:
    """Draw one handwritten digit for each cell, from the images that belong to the split; only digits in `among`."""
    rows = np.arange(*DIGIT_ROWS[split])
    rows = rows[np.isin(digits()[1][rows], among)]
    return Handwriting(tuple(int(row) for row in rng.choice(rows, len(cells))), cells)
