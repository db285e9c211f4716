"""The loss while it is being trained: log records that whoever is interested can listen to, MLflow's hook for one."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

TOLD = ("loss", "learning_rate", "term")
STEPS = logging.getLogger("adapt_infinity.training.steps")
STEPS.propagate = False  # a line a step is not for the terminal, which has a progress bar
STEPS.setLevel(logging.INFO)


def tell(step: int, values: Mapping[str, float]) -> None:
    """A step of the optimiser is done."""
    STEPS.info("step", extra={"step": step, "values": dict(values)})


class _Listener(logging.Handler):
    def __init__(self, hear: Callable[[int, dict[str, float]], None]) -> None:
        super().__init__()
        self._hear = hear

    def emit(self, record: logging.LogRecord) -> None:
        self._hear(record.step, record.values)  # type: ignore[attr-defined]


@contextmanager
def heard_by(hear: Callable[[int, dict[str, float]], None]) -> Iterator[None]:
    """While open, `hear(step, values)` is called after every step of a training in this process."""
    listener = _Listener(hear)
    STEPS.addHandler(listener)
    try:
        yield
    finally:
        STEPS.removeHandler(listener)
