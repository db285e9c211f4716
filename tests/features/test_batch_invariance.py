"""A feature row does not depend on the number of rows in its batch; where it does, the probe warns."""

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
from tests.features.test_batch_reading import STEPS, plausible_moments, spec_name

EVERY = [
    replace(SPEC, gradient=gradient, sketch=sketch)
    for gradient, sketch in itertools.product(gradients.names(), sketches.names())
] + [replace(SPEC, feature="embedding"), replace(SPEC, feature="zero_order", dim=2)]
LENGTH = 128  # to which rows are padded


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread, as a worker of the probe has by default."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def sixteen(rows: list[Any]) -> list[Any]:
    """Sixteen rows, the shortest answer first, so that the head multiplies matrices of few rows, too."""
    shortest_first = sorted((row for row in rows if len(row) <= LENGTH), key=lambda row: int(row.answers.sum()))
    return (shortest_first * 16)[:16]


def padded_batch(vlm: Vlm, rows: Sequence[Any]) -> Batch:
    """A batch as the probe makes it: a single row is duplicated, and all rows are padded to one length."""
    return collate([*rows, *rows] if len(rows) == 1 else rows, pad_token(vlm), length=LENGTH)


def read(vlm: Vlm, spec: Spec, rows: Sequence[Any]) -> BatchReading:
    batch = padded_batch(vlm, rows)
    moments = plausible_moments(vlm) if spec.gradient == "adam" else None
    return read_batch(vlm, batch, np.full(len(batch.labels), 1.5), spec, moments, STEPS)


@pytest.mark.parametrize("spec", EVERY, ids=spec_name)
def test_one_to_eight_rows_have_the_bytes_of_sixteen(vlm: Vlm, sixteen: list[Any], spec: Spec) -> None:
    whole = read(vlm, spec, sixteen)
    for count in range(1, 9):
        few = read(vlm, spec, sixteen[:count])
        assert torch.equal(few.features[:count], whole.features[:count]), count
        assert torch.equal(few.embeddings[:count], whole.embeddings[:count]), count
        for name, values in few.scores.items():
            assert torch.equal(values[:count], whole.scores[name][:count]), (name, count)


def test_one_to_eight_losses_have_the_bytes_of_sixteen(vlm: Vlm, sixteen: list[Any]) -> None:
    whole = read_losses(vlm, padded_batch(vlm, sixteen))
    for count in range(1, 9):
        few = read_losses(vlm, padded_batch(vlm, sixteen[:count]))
        assert torch.equal(few[:count], whole[:count]), count


def test_no_batch_dependence_on_this_machine(vlm: Vlm) -> None:
    assert batch_dependence(vlm) == ""


class Uneven(torch.Tensor):
    """A matrix whose products with fewer than five rows differ slightly, as those of some libraries do."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = super().__torch_function__(func, types, args, kwargs or {})
        return made * (1 + 1e-6) if func.__name__ == "matmul" and len(args[0]) < 5 else made


def test_numbers_of_rows_with_different_products_are_found() -> None:
    matrix = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    assert batch_invariance._dependent_counts(matrix.as_subclass(Uneven)) == [2, 3, 4]


@pytest.mark.parametrize("intel", [True, False])
@pytest.mark.parametrize("now", ["", "AVX2", STRICT])
def test_the_warning_names_rows_shape_and_remedy(
    vlm: Vlm, monkeypatch: pytest.MonkeyPatch, intel: bool, now: str
) -> None:
    monkeypatch.setattr(batch_invariance, "_dependent_counts", lambda _matrix: [2, 3])
    monkeypatch.setattr(batch_invariance, "is_intel", lambda: intel)
    monkeypatch.setenv(VARIABLE, now)
    warning = batch_dependence(vlm)
    assert "a product of 2, 3 rows with a float32 matrix of 96 x 96" in warning
    assert (f"start Python with {VARIABLE}={STRICT}" in warning) == intel
    assert ("before anything multiplies" in warning) == (intel and now == STRICT)


def test_with_several_threads_nothing_is_checked(vlm: Vlm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_invariance, "_dependent_counts", lambda _matrix: [2, 3])
    torch.set_num_threads(2)
    assert batch_dependence(vlm) == ""


COMPARE_PRODUCTS = """
import torch
import adapt_infinity
torch.set_num_threads(1)
draw = torch.Generator().manual_seed(0)
rows, weight = torch.randn(64, 96, generator=draw), torch.randn(96, 96, generator=draw)
print(all(torch.equal(rows[:count] @ weight.T, (rows @ weight.T)[:count]) for count in range(2, 9)))
"""


@pytest.mark.skipif(not is_intel(), reason="on other processors products do not depend on the number of rows")
def test_the_package_sets_the_variable_in_time_even_after_torch() -> None:
    """In a new process, because the library reads the variable only once."""
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    environment["PYTHONPATH"] = str(PROJECT / "src")
    command = [sys.executable, "-c", COMPARE_PRODUCTS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
