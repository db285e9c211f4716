"""What every training method owes (METHOD section 10), the next one included."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from adapt_infinity.training import loss_events, methods
from adapt_infinity.training.method_state import MethodState, own_state, read_state, write_state
from adapt_infinity.training.methods.finetune import Params as Plain
from adapt_infinity.training.round import Outcome
from tests.training.usual import AS_SHIPPED, Toy, equal_states, policy, same

EVERY = methods.names()
FORMS = [name for name in EVERY if hasattr(methods.load(name), "shape")]  # whose part is the adapter, not a term
OTHERS = [name for name in EVERY if name not in ("finetune", *FORMS)]  # laws of FORMS: a test file each


@pytest.fixture(scope="module")
def first(toy: Toy) -> Callable[[str], Outcome]:
    """The first round by a method, trained once for all tests."""
    known: dict[str, Outcome] = {}

    def train(name: str) -> Outcome:
        if name not in known:
            known[name] = toy.train(name, 1)
        return known[name]

    return train


@pytest.fixture(scope="module")
def second(toy: Toy, first: Callable[[str], Outcome]) -> Callable[[str], Outcome]:
    known: dict[str, Outcome] = {}

    def train(name: str) -> Outcome:
        if name not in known:
            known[name] = toy.train(name, 2, first(name))
        return known[name]

    return train


@pytest.fixture(scope="module")
def plain(toy: Toy, first: Callable[[str], Outcome]) -> Callable[[str], Outcome]:
    """The second round by fine-tuning, from what a method made of the first."""
    known: dict[str, Outcome] = {}

    def train(name: str) -> Outcome:
        if name not in known:
            adapter, log, _ = first(name)
            begun = (adapter, log, MethodState())
            known[name] = toy.train("finetune", 2, begun, params=Plain(), adapter_policy=policy(name))
        return known[name]

    return train


@pytest.mark.parametrize("name", EVERY)
def test_it_can_be_told_what_the_configuration_says(name: str) -> None:
    assert methods.params_of(name, AS_SHIPPED)
    with pytest.raises(ValueError, match=rf"methods.{name} has no 'strenght'"):
        methods.params_of(name, {name: {**AS_SHIPPED[name], "strenght": 1}})


@pytest.mark.parametrize("name", OTHERS)
def test_at_strength_0_it_is_fine_tuning_bit_for_bit(
    name: str, toy: Toy, first: Callable[[str], Outcome], plain: Callable[[str], Outcome]
) -> None:
    off = methods.load(name).PLAIN
    without, log, _ = toy.train(name, 2, first(name), params=off)
    assert same(without, plain(name)[0])
    assert log["loss"].tolist() == plain(name)[1]["loss"].tolist()


@pytest.mark.parametrize("name", OTHERS)
def test_on_round_2_its_term_is_there_and_changes_the_weights(
    name: str, second: Callable[[str], Outcome], plain: Callable[[str], Outcome]
) -> None:
    adapter, log, _ = second(name)
    assert not same(adapter, plain(name)[0])
    if not hasattr(methods.load(name), "choose"):  # whose part is in the choice of samples
        assert log["term"].abs().max() > 0


@pytest.mark.parametrize("name", EVERY)
def test_its_state_survives_a_restart(
    name: str, toy: Toy, first: Callable[[str], Outcome], second: Callable[[str], Outcome], tmp_path: Path
) -> None:
    adapter, log, state = first(name)
    write_state(state, tmp_path / "state")
    read = read_state(tmp_path / "state")
    assert read.method == state.method == name
    assert equal_states(read, state)
    again, _, handed_on = toy.train(name, 2, (adapter, log, read))
    assert same(again, second(name)[0])
    assert equal_states(handed_on, second(name)[2])


@pytest.mark.parametrize("name", EVERY)
def test_equal_subset_equal_steps(name: str, second: Callable[[str], Outcome]) -> None:
    _, log, _ = second(name)
    assert len(log) == 2 * 2  # five samples in batches of four, twice
    assert log["samples"].sum() == 2 * 5
    assert (log["tokens"] > 0).all()


@pytest.mark.parametrize("name", EVERY)
def test_a_killed_training_goes_on_and_ends_with_the_same_weights(
    name: str, toy: Toy, first: Callable[[str], Outcome], second: Callable[[str], Outcome]
) -> None:
    seen: list[int] = []

    def die(step: int, values: dict[str, float]) -> None:
        seen.append(step)
        if step == 2:
            raise KeyboardInterrupt

    with loss_events.heard_by(die), pytest.raises(KeyboardInterrupt):
        toy.train(name, 2, first(name), checkpoint_every=1)
    with loss_events.heard_by(lambda step, _: seen.append(step)):
        resumed, log, state = toy.train(name, 2, first(name), checkpoint_every=1)
    assert seen == [0, 1, 2, 2, 3], "the step whose checkpoint was not written is repeated, and no other"
    whole, whole_log, whole_state = second(name)
    assert same(resumed, whole)
    assert equal_states(state, whole_state)
    assert log.drop(columns="held_out_loss").equals(whole_log.drop(columns="held_out_loss"))
    assert not list(toy.folder.glob("*/*.safetensors")), "what is over leaves no checkpoint"


@pytest.mark.parametrize("name", EVERY)
def test_it_only_goes_on_from_a_state_of_its_own(name: str) -> None:
    foreign = MethodState("another", {"importance": torch.ones(1)})
    with pytest.raises(ValueError, match=f"trained by another, whose state {name} cannot use"):
        own_state(foreign, name)
