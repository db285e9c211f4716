"""A sheet of samples with their pictures and their first turns."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from adapt_infinity.reporting.figures.style import INK, PAPER, PLAIN, SOFT

SHEET = 12  # samples per sheet


def sample_sheet(
    titles: Sequence[str], pictures: Sequence[Sequence[np.ndarray]], turns: Sequence[Sequence[tuple[str, str]]]
) -> Figure:
    """Samples in two columns: pictures (rows, columns, 3) on the left, turns (role, text) on the right."""
    rows = -(-len(titles) // 2)
    figure = Figure(figsize=(11, 1.35 * rows + 0.2), facecolor=PAPER, layout="constrained")
    grid = figure.add_gridspec(rows, 4, width_ratios=[1, 3, 1, 3])
    for number, (title, shown, conversation) in enumerate(zip(titles, pictures, turns, strict=True)):
        row, left = number % rows, 2 * (number // rows)
        text = figure.add_subplot(grid[row, left + 1])
        text.set_axis_off()
        lines = [f"{'Q' if role == 'user' else 'A'}: {' '.join(words.split())}" for role, words in conversation[:4]]
        body = "\n".join(textwrap.shorten(line, 110, placeholder=" …") for line in lines)
        body = "\n".join(wrapped for line in body.splitlines() for wrapped in textwrap.wrap(line, 52))
        text.text(0, 1, title, fontsize=8, color=SOFT, va="top", parse_math=False)
        text.text(0, 0.82, body, fontsize=8, color=INK, **PLAIN)
        if shown:
            height = min(picture.shape[0] for picture in shown)
            strip = np.concatenate([_scale_to_height(picture, height) for picture in shown[:4]], axis=1)
            axes = figure.add_subplot(grid[row, left])
            axes.imshow(strip, interpolation="nearest" if height < 100 else "antialiased")
            axes.set_axis_off()
    return figure


def _scale_to_height(picture: np.ndarray, height: int) -> np.ndarray:
    """The picture scaled to a smaller height by dropping pixels, with a white margin on the right."""
    rows = np.arange(height) * picture.shape[0] // height
    columns = np.arange(max(1, picture.shape[1] * height // picture.shape[0])) * picture.shape[0] // height
    small = picture[rows][:, np.minimum(columns, picture.shape[1] - 1)]
    return np.concatenate([small, np.full((height, max(1, height // 16), 3), 255, np.uint8)], axis=1)
