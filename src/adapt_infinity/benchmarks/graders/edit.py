"""Transcription accuracy: 1 - character error rate (edit distance / length of the reference), at least 0."""

from adapt_infinity.benchmarks.text import edit_distance, tidy


def grade(answer: str, reference: str) -> float:
    """A value from 0 to 1. Case counts."""
    given, wanted = tidy(answer), tidy(reference)
    if not wanted:
        return float(not given)
    return max(0.0, 1 - edit_distance(given, wanted) / len(wanted))
