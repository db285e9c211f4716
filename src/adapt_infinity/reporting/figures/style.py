"""Colours, fonts, titles and axes of all figures.

The colours are those of Okabe & Ito (2008), which colour-blind readers can distinguish. No figure uses colour alone.
"""

import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

INK, SOFT, FAINT, PAPER = "#222222", "#6b6b6b", "#dddddd", "white"
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#8C6D31")
SHADES = ["#f7f4ec", "#bcd7dd", "#5fa2bd", "#0072B2", "#053a5f"]
_CJK = ("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei",
        "PingFang SC", "Hiragino Sans GB", "Microsoft YaHei", "SimHei", "Arial Unicode MS")  # fmt: skip
_FONTS = ["DejaVu Sans", *[name for name in _CJK if name in font_manager.get_font_names()]]
PLAIN: dict[str, Any] = {"va": "top", "parse_math": False, "linespacing": 1.15, "family": _FONTS}


def cut(name: str, length: int) -> str:
    """The name shortened to at most `length` letters."""
    return name if len(name) <= length else f"{name[: length - 1]}…"


def put_title(figure: Figure, title: str, note: str) -> None:
    """Write a title in the upper left corner, and under it a note on how to read the figure."""
    width, height = figure.get_size_inches()
    lines, under = textwrap.wrap(title, int(width / 0.092)), textwrap.wrap(note, int(width / 0.07))
    below = 0.1 + 0.205 * len(lines)  # inches from the top
    style = {"x": 0.1 / width, "va": "top", "in_layout": False}
    figure.text(y=1 - 0.1 / height, s="\n".join(lines), fontsize=11.5, color=INK, **style)
    figure.text(y=1 - below / height, s="\n".join(under), fontsize=8.5, color=SOFT, **style)
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(rect=(0, 0, 1, 1 - (below + 0.16 * len(under) + 0.1) / height))


def tidy(axes: Axes, spines: Sequence[str]) -> None:
    """Show only these spines of the axes, and no tick marks."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in spines)
        spine.set_color(SOFT)
    axes.tick_params(length=0, labelsize=8, labelcolor=INK)
    axes.set_axisbelow(True)
