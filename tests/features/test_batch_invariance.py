"""A sample's row is the same whatever the number of rows beside it; where it cannot be, the probe says so."""

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from adapt_infinity.features import batch_invariance, gradients, sketches
from adapt_infinity.features.batch_invariance import batch_dependence
from adapt_infinity.features.batch_reading import BatchReading, read_batch, read_losses
from adapt_infinity.features.spec import Spec
from adapt_infinity.model.checkpoint import Batch, Vlm
from adapt_infinity.model.prompts import collate, pad_token
from adapt_infinity.reproducibility import STRICT, VARIABLE, is_intel
from tests.conftest import PROJECT
from tests.features.conftest import SPEC
from tests.features.test_batch_reading import STEPS, moments_of, named

EVERY = [
    replace(SPEC, gradient=gradient, sketch=sketch)
    for gradient, sketch in itertools.product(gradients.names(), sketches.names())
] + [replace(SPEC, feature="embedding"), replace(SPEC, feature="zero_order", dim=2)]
LENGTH = 128  # to which rows are padded


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As a worker of the probe has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def sixteen(rows: list[Any]) -> list[Any]:
    """The shortest answer first: so few rows does the head multiply that it shows."""
    shortest_first = sorted((row for row in rows if len(row) <= LENGTH), key=lambda row: int(row.answers.sum()))
    return (shortest_first * 16)[:16]


def together(vlm: Vlm, rows: Sequence[Any]) -> Batch:
    """As the probe does: a row that would be alone is there twice. All are padded to one length."""
    return collate([*rows, *rows] if len(rows) == 1 else rows, pad_token(vlm), length=LENGTH)


def read(vlm: Vlm, spec: Spec, rows: Sequence[Any]) -> BatchReading:
    batch = together(vlm, rows)
    moments = moments_of(vlm) if spec.gradient == "adam" else None
    return read_batch(vlm, batch, np.full(len(batch.labels), 1.5), spec, moments, STEPS)


@pytest.mark.parametrize("spec", EVERY, ids=named)
def test_one_to_eight_rows_are_the_bytes_of_sixteen(vlm: Vlm, sixteen: list[Any], spec: Spec) -> None:
    whole = read(vlm, spec, sixteen)
    for count in range(1, 9):
        few = read(vlm, spec, sixteen[:count])
        assert torch.equal(few.features[:count], whole.features[:count]), count
        assert torch.equal(few.embeddings[:count], whole.embeddings[:count]), count
        for name, values in few.scores.items():
            assert torch.equal(values[:count], whole.scores[name][:count]), (name, count)


def test_one_to_eight_losses_are_the_bytes_of_sixteen(vlm: Vlm, sixteen: list[Any]) -> None:
    whole = read_losses(vlm, together(vlm, sixteen))
    for count in range(1, 9):
        few = read_losses(vlm, together(vlm, sixteen[:count]))
        assert torch.equal(few[:count], whole[:count]), count


def test_the_law_holds_on_this_machine(vlm: Vlm) -> None:
    assert batch_dependence(vlm) == ""


class Uneven(torch.Tensor):
    """A matrix whose products of fewer than five rows are a little different, as some libraries make them."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = super().__torch_function__(func, types, args, kwargs or {})
        return made * (1 + 1e-6) if func.__name__ == "matmul" and len(args[0]) < 5 else made


def test_numbers_of_rows_whose_products_differ_are_found() -> None:
    matrix = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    assert batch_invariance._dependent_counts(matrix.as_subclass(Uneven)) == [2, 3, 4]


@pytest.mark.parametrize("intel", [True, False])
@pytest.mark.parametrize("now", ["", "AVX2", STRICT])
def test_where_it_does_not_hold_the_warning_names_rows_shape_and_remedy(
    vlm: Vlm, monkeypatch: pytest.MonkeyPatch, intel: bool, now: str
) -> None:
    monkeypatch.setattr(batch_invariance, "_dependent_counts", lambda _matrix: [2, 3])
    monkeypatch.setattr(batch_invariance, "is_intel", lambda: intel)
    monkeypatch.setenv(VARIABLE, now)
    said = batch_dependence(vlm)
    assert "a product of 2, 3 rows with a float32 matrix of 96 x 96" in said
    assert (f"start Python with {VARIABLE}={STRICT}" in said) == intel
    assert ("before anything multiplies" in said) == (intel and now == STRICT)


def test_several_threads_promise_nothing(vlm: Vlm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_invariance, "_dependent_counts", lambda _matrix: [2, 3])
    torch.set_num_threads(2)
    assert batch_dependence(vlm) == ""


TRIED = """
import torch
import adapt_infinity
torch.set_num_threads(1)
draw = torch.Generator().manual_seed(0)
rows, weight = torch.randn(64, 96, generator=draw), torch.randn(96, 96, generator=draw)
print(all(torch.equal(rows[:count] @ weight.T, (rows @ weight.T)[:count]) for count in range(2, 9)))
"""


@pytest.mark.skipif(not is_intel(), reason="other processors multiply two and more rows alike by themselves")
def test_the_package_asks_in_time_even_where_torch_was_imported_first() -> None:
    """In a process of its own, since the library reads the variable once."""
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    environment["PYTHONPATH"] = str(PROJECT / "src")
    done = subprocess.run([sys.executable, "-c", TRIED], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
