"""How an answer is graded: one file a grader, each with `grade(answer, reference) -> float` in [0, 1].

For every grader a reference grades 1 against itself, silence grades 0 against a reference that is not blank,
and no text makes it fail. A reference in which a grader does not find what it compares (a number, a letter, a
box) is compared as text.
"""

from collections.abc import Callable

from adapt_infinity import registry


def names() -> list[str]:
    """Every grader, by its file's name."""
    return registry.names(__name__)


def load(name: str) -> Callable[[str, str], float]:
    """The `grade(answer, reference)` of one grader; `ValueError` lists those there are."""
    grade: Callable[[str, str], float] = registry.load(__name__, name, "grade")
    return grade
