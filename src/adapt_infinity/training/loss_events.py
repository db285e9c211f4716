"""Loss events: one log record with the loss after every training step, for listeners such as the MLflow hook."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

VALUES = ("loss", "learning_rate", "term")  # the columns of the training log that a record has
STEPS = logging.getLogger("adapt_infinity.training.steps")
STEPS.propagate = False  # the terminal shows a progress bar instead of one line per step
STEPS.setLevel(logging.INFO)


def emit(step: int, values: Mapping[str, float]) -> None:
    """Report that a step of the optimiser is done."""
    STEPS.info("step", extra={"step": step, "values": dict(values)})


class _CallbackHandler(logging.Handler):
    def __init__(self, callback: Callable[[int, dict[str, float]], None]) -> None:
        super().__init__()
        self._callback = callback

    def emit(self, record: logging.LogRecord) -> None:
        self._callback(record.step, record.values)  # type: ignore[attr-defined]


@contextmanager
def listening(callback: Callable[[int, dict[str, float]], None]) -> Iterator[None]:
    """While the context is open, call `callback(step, values)` after every training step in this process."""
    handler = _CallbackHandler(callback)
    STEPS.addHandler(handler)
    try:
        yield
    finally:
        STEPS.removeHandler(handler)
