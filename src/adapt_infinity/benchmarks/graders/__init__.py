"""Graders: how an answer is compared with the reference. One file per grader, each with the function

grade(answer, reference) -> float in 0..1

For every grader a reference graded against itself gets 1, an empty answer gets 0 unless the reference is blank, and no
text raises an error. If a reference does not contain what the grader compares (a number, a letter, a box), then the
answer is compared with the whole reference as text.
"""

from collections.abc import Callable

from adapt_infinity import registry


def names() -> list[str]:
    """All graders, by file name."""
    return registry.names(__name__)


def load(name: str) -> Callable[[str, str], float]:
    """`grade` of the grader `name`; `ValueError` lists the known graders."""
    grade: Callable[[str, str], float] = registry.load(__name__, name, "grade")
    return grade
