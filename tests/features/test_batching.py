"""Batches cover every row once, are of one length, and give way when memory is short."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adapt_infinity.features.batching import TokenBudget, padded_length, run_in_batches

CPU = torch.device("cpu")
needs_proc = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from Linux's /proc")


@given(st.integers(1, 100_000))
def test_a_row_is_padded_by_an_eighth_at_most(length: int) -> None:
    assert length <= padded_length(length) <= max(8, length + 7, 1.125 * length + 1)
    assert padded_length(padded_length(length)) == padded_length(length), "a padded length is one of the steps"


@given(st.lists(st.integers(1, 300), max_size=40), st.integers(1, 2000))
def test_every_row_once_within_the_budget_longest_first(lengths: list[int], tokens: int) -> None:
    seen: list[int] = []
    sizes = []
    for places, length in run_in_batches(lengths, TokenBudget(tokens, 0, CPU), lambda _places, length: length):
        assert {padded_length(lengths[place]) for place in places} == {length}
        assert places == places[:1] * 2 or 1 < len(places) * length <= tokens
        seen += dict.fromkeys(places)
        sizes.append(length)
    assert sorted(seen) == list(range(len(lengths)))
    assert sizes == sorted(sizes, reverse=True)


def test_a_row_is_never_alone_on_a_cpu() -> None:
    given: list[list[int]] = []
    for device in (CPU, torch.device("cuda")):
        done = [
            places
            for places, _ in run_in_batches([8, 16, 16], TokenBudget(32, 0, device), lambda p, _: given.append(p))
        ]
        assert done == given[-2:]
    assert given == [[1, 2], [0, 0], [1, 2], [0]]


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_a_batch_that_does_not_fit_is_halved_until_it_does(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    def work(places: list[int], length: int) -> int:
        if len(places) * length > 100:
            raise error
        return len(places)

    budget = TokenBudget(1000, 0, CPU)
    made = list(run_in_batches([16] * 40, budget, work))
    assert sorted(place for places, _ in made for place in places) == list(range(40))
    assert budget.tokens <= 100, "later windows start with what fits"
    assert "out of memory" in caplog.text
    assert "batches of at most" in caplog.text


def test_a_row_that_does_not_fit_alone_is_an_error_and_so_is_any_other() -> None:
    def never(places: list[int], length: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(MemoryError, match="a sample of 50 tokens does not fit into memory by itself"):
        list(run_in_batches([50, 20], TokenBudget(1000, 0, CPU), never))

    def wrong(places: list[int], length: int) -> None:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        list(run_in_batches([50], TokenBudget(1000, 0, CPU), wrong))


@needs_proc
def test_a_memory_target_is_kept() -> None:
    """Work that takes 100 kB a token, under a target of 40 MB."""
    held = []

    def work(places: list[int], length: int) -> int:
        held.append(len(places) * length)
        return int(torch.ones(held[-1], 25_000).sum())

    list(run_in_batches([32] * 60, TokenBudget(100_000, 40, CPU), work))
    assert held[0] == 2 * 32, "the first batch is one row, and that one for company, to learn from"
    assert max(held) * 100_000 <= 40 * 2**20
    assert max(held) >= 5 * 32, "and what was learnt is used"


def test_a_target_that_cannot_be_measured_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_self: Path, _text: str) -> int:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "write_text", absent)
    with pytest.raises(ValueError, match=r"probe\.memory_mb can be kept on CUDA devices and on Linux only"):
        TokenBudget(10, 10, CPU)
