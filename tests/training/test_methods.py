"""Properties of every training method (docs/method.md, section 10); a new method is tested without a change here."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from adapt_infinity.model.lora import adapter_digest
from adapt_infinity.training import loss_events, methods
from adapt_infinity.training.method_state import MethodState, read_state, state_for, write_state
from adapt_infinity.training.methods.finetune import Params as Plain
from adapt_infinity.training.round import TrainingOutputs
from tests.training.usual import DEFAULTS, Toy, equal_states, policy, same

EVERY = methods.names()
ADAPTER_METHODS = [name for name in EVERY if hasattr(methods.load(name), "prepare_adapter")]  # they add no term
OTHERS = [name for name in EVERY if name not in ("finetune", *ADAPTER_METHODS)]  # each of those has its own test file


@pytest.fixture(scope="module")
def first(toy: Toy) -> Callable[[str], TrainingOutputs]:
    """The first round by each method, trained once for all tests."""
    trained: dict[str, TrainingOutputs] = {}

    def train(name: str) -> TrainingOutputs:
        if name not in trained:
            trained[name] = toy.train(name, 1)
        return trained[name]

    return train


@pytest.fixture(scope="module")
def second(toy: Toy, first: Callable[[str], TrainingOutputs]) -> Callable[[str], TrainingOutputs]:
    trained: dict[str, TrainingOutputs] = {}

    def train(name: str) -> TrainingOutputs:
        if name not in trained:
            trained[name] = toy.train(name, 2, first(name))
        return trained[name]

    return train


@pytest.fixture(scope="module")
def plain(toy: Toy, first: Callable[[str], TrainingOutputs]) -> Callable[[str], TrainingOutputs]:
    """The second round by fine-tuning, after a first round by each method."""
    trained: dict[str, TrainingOutputs] = {}

    def train(name: str) -> TrainingOutputs:
        if name not in trained:
            adapter, log, _ = first(name)
            same_start = f"{adapter_digest(adapter)} {policy(name)}"  # the first round of many methods is the same
            if same_start not in trained:
                before = (adapter, log, MethodState())
                trained[same_start] = toy.train("finetune", 2, before, params=Plain(), adapter_policy=policy(name))
            trained[name] = trained[same_start]
        return trained[name]

    return train


@pytest.mark.parametrize("name", EVERY)
def test_the_configuration_is_accepted_and_a_typo_is_an_error(name: str) -> None:
    assert methods.params_of(name, DEFAULTS)
    with pytest.raises(ValueError, match=rf"methods.{name} has no 'strenght'"):
        methods.params_of(name, {name: {**DEFAULTS[name], "strenght": 1}})


@pytest.mark.parametrize("name", OTHERS)
def test_with_strength_0_it_equals_fine_tuning_bit_for_bit(
    name: str, toy: Toy, first: Callable[[str], TrainingOutputs], plain: Callable[[str], TrainingOutputs]
) -> None:
    off = methods.load(name).PLAIN
    without, log, _ = toy.train(name, 2, first(name), params=off)
    assert same(without, plain(name)[0])
    assert log["loss"].tolist() == plain(name)[1]["loss"].tolist()


@pytest.mark.parametrize("name", OTHERS)
def test_in_round_2_its_term_is_present_and_changes_the_weights(
    name: str, second: Callable[[str], TrainingOutputs], plain: Callable[[str], TrainingOutputs]
) -> None:
    adapter, log, _ = second(name)
    assert not same(adapter, plain(name)[0])
    if not hasattr(methods.load(name), "replace_samples"):  # such a method adds no term
        assert log["term"].abs().max() > 0


@pytest.mark.parametrize("name", EVERY)
def test_its_state_survives_a_restart_of_the_process(
    name: str,
    toy: Toy,
    first: Callable[[str], TrainingOutputs],
    second: Callable[[str], TrainingOutputs],
    tmp_path: Path,
) -> None:
    adapter, log, state = first(name)
    write_state(state, tmp_path / "state")
    read = read_state(tmp_path / "state")
    assert read.method == state.method == name
    assert equal_states(read, state)
    again, _, new_state = toy.train(name, 2, (adapter, log, read))
    assert same(again, second(name)[0])
    assert equal_states(new_state, second(name)[2])


@pytest.mark.parametrize("name", EVERY)
def test_equal_subsets_give_equally_many_steps(name: str, second: Callable[[str], TrainingOutputs]) -> None:
    _, log, _ = second(name)
    assert len(log) == 2 * 2  # five samples in batches of four, twice
    assert log["samples"].sum() == 2 * 5
    assert (log["tokens"] > 0).all()


@pytest.mark.parametrize("name", EVERY)
def test_a_killed_training_continues_and_ends_with_the_same_weights(
    name: str, toy: Toy, first: Callable[[str], TrainingOutputs], second: Callable[[str], TrainingOutputs]
) -> None:
    seen: list[int] = []

    def die(step: int, values: dict[str, float]) -> None:
        seen.append(step)
        if step == 2:
            raise KeyboardInterrupt

    with loss_events.listening(die), pytest.raises(KeyboardInterrupt):
        toy.train(name, 2, first(name), checkpoint_every=1)
    with loss_events.listening(lambda step, _: seen.append(step)):
        resumed, log, state = toy.train(name, 2, first(name), checkpoint_every=1)
    assert seen == [0, 1, 2, 2, 3], "only the step whose checkpoint was not written is repeated"
    whole, whole_log, whole_state = second(name)
    assert same(resumed, whole)
    assert equal_states(state, whole_state)
    assert log.drop(columns="held_out_loss").equals(whole_log.drop(columns="held_out_loss"))
    assert not list(toy.folder.glob("*/*.safetensors")), "a finished training leaves no checkpoint"


@pytest.mark.parametrize("name", EVERY)
def test_it_refuses_the_state_of_another_method(name: str) -> None:
    foreign = MethodState("another", {"importance": torch.ones(1)})
    with pytest.raises(ValueError, match=f"trained by another, whose state {name} cannot use"):
        state_for(name, foreign)
