"""Batches cover every row once, have one padded length each, and shrink when memory is short."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adapt_infinity.features.batching import TokenBudget, padded_length, run_in_batches

CPU = torch.device("cpu")
needs_procfs = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc"
)


@given(st.integers(1, 100_000))
def test_a_row_is_padded_by_at_most_an_eighth(length: int) -> None:
    assert length <= padded_length(length) <= max(8, length + 7, 1.125 * length + 1)
    assert padded_length(padded_length(length)) == padded_length(length), "a padded length is not padded again"


@given(st.lists(st.integers(1, 300), max_size=40), st.integers(1, 2000))
def test_batches_cover_every_row_once_within_the_budget_longest_first(lengths: list[int], tokens: int) -> None:
    seen: list[int] = []
    sizes = []
    for members, length in run_in_batches(lengths, TokenBudget(tokens, 0, CPU), lambda _members, length: length):
        assert {padded_length(lengths[index]) for index in members} == {length}
        assert members == members[:1] * 2 or 1 < len(members) * length <= tokens
        seen += dict.fromkeys(members)
        sizes.append(length)
    assert sorted(seen) == list(range(len(lengths)))
    assert sizes == sorted(sizes, reverse=True)


def test_on_a_cpu_a_single_row_is_duplicated() -> None:
    given: list[list[int]] = []
    for device in (CPU, torch.device("cuda")):
        done = [
            members
            for members, _ in run_in_batches([8, 16, 16], TokenBudget(32, 0, device), lambda p, _: given.append(p))
        ]
        assert done == given[-2:]
    assert given == [[1, 2], [0, 0], [1, 2], [0]]


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_a_batch_that_does_not_fit_is_halved_until_it_fits(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    def work(members: list[int], length: int) -> int:
        if len(members) * length > 100:
            raise error
        return len(members)

    budget = TokenBudget(1000, 0, CPU)
    made = list(run_in_batches([16] * 40, budget, work))
    assert sorted(index for members, _ in made for index in members) == list(range(40))
    assert budget.tokens <= 100, "later windows start with batches that fit"
    assert "out of memory" in caplog.text
    assert "batches of at most" in caplog.text


def test_a_row_that_does_not_fit_alone_is_an_error_and_other_errors_are_raised() -> None:
    def never(members: list[int], length: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(MemoryError, match="a sample of 50 tokens does not fit into memory by itself"):
        list(run_in_batches([50, 20], TokenBudget(1000, 0, CPU), never))

    def wrong(members: list[int], length: int) -> None:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        list(run_in_batches([50], TokenBudget(1000, 0, CPU), wrong))


@needs_procfs
def test_batches_stay_within_the_memory_target() -> None:
    """Work that takes 100 kB per token, with a target of 40 MB."""
    batch_tokens = []

    def work(members: list[int], length: int) -> int:
        batch_tokens.append(len(members) * length)
        return int(torch.ones(batch_tokens[-1], 25_000).sum())

    list(run_in_batches([32] * 60, TokenBudget(100_000, 40, CPU), work))
    assert batch_tokens[0] == 2 * 32, "the first batch is one row, duplicated, whose memory is measured"
    assert max(batch_tokens) * 100_000 <= 40 * 2**20
    assert max(batch_tokens) >= 5 * 32, "later batches use the measurement"


def test_a_memory_target_is_refused_where_memory_cannot_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_self: Path, _text: str) -> int:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "write_text", absent)
    with pytest.raises(ValueError, match=r"probe\.memory_mb works on CUDA devices and on Linux only"):
        TokenBudget(10, 10, CPU)
