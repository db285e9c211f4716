"""Grounding: the first box [x1, y1, x2, y2] is correct if its intersection over union (IoU) with the reference is at
least 0.5.
"""

import re

from adapt_infinity.benchmarks.text import tidy

Box = tuple[float, float, float, float]

_THRESHOLD = 0.5
_LARGEST = 1e9  # no picture has a coordinate beyond this
_NUMBER = r"\s*(-?\d+(?:\.\d*)?|-?\.\d+)\s*"
_BOX = re.compile(rf"\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]")


def first_box(text: str) -> Box | None:
    """The first four numbers in brackets; None if there are none, or if they enclose no area."""
    found = _BOX.search(text)
    if found is None:
        return None
    x1, y1, x2, y2 = (float(number) for number in found.groups())
    if max(map(abs, (x1, y1, x2, y2))) > _LARGEST or x1 >= x2 or y1 >= y2 or _area((x1, y1, x2, y2)) == 0:
        return None
    return x1, y1, x2, y2


def overlap(a: Box, b: Box) -> float:
    """Intersection over union, in 0..1."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / (_area(a) + _area(b) - shared)


def grade(answer: str, reference: str) -> float:
    """1 if the box is correct, else 0."""
    wanted, given = first_box(reference), first_box(answer)
    if wanted is None:
        return float(tidy(answer) == tidy(reference))
    return float(given is not None and overlap(given, wanted) >= _THRESHOLD)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
