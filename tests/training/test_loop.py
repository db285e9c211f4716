"""Training: only the adapter learns, every sample is seen once an epoch, and the same seed gives the same weights."""

import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adapt_infinity import executors
from adapt_infinity.model.checkpoint import Vlm, detach, load_vlm, new_adapter
from adapt_infinity.model.lora import Adapter, join_ranks, split_ranks
from adapt_infinity.model.prompts import encode
from adapt_infinity.pool.pool import Pool
from adapt_infinity.training import adapter_policy, loss_events
from adapt_infinity.training.context import StepCallbacks
from adapt_infinity.training.loop import _step, held_out_loss, train
from adapt_infinity.training.method_state import start_state
from adapt_infinity.training.params import TrainingParams, WarmUpParams
from adapt_infinity.training.round import train_adapter, warm_up_adapter
from adapt_infinity.training.schedule import Step, cosine, epoch_batches, held_out
from tests.training.usual import AS_SHIPPED, PARAMS, Toy, all_of, same


def test_the_adapter_learns_and_nothing_else(toy: Toy) -> None:
    trained, log, _ = toy.train("finetune", 1, epochs=8)
    assert len(log) == 8 * 2  # epochs times steps
    assert log["samples"].sum() == 8 * 8
    assert log["loss"].iloc[-2:].mean() < 0.5 * log["loss"].iloc[:2].mean()
    assert all(not torch.equal(tensor, toy.adapter.tensors[name]) for name, tensor in trained.tensors.items())
    history = {"rounds": [1], "steps": 16, "moment_steps": 16}
    assert trained.record == {"policy": "continue", "method": "finetune", **history}
    assert {name.rsplit(".", 1)[1] for name in trained.moments} == {"exp_avg", "exp_avg_sq"}
    assert all(moment.abs().sum() > 0 for moment in trained.moments.values())
    assert same(trained, toy.train("finetune", 1, epochs=8, cache_mb=0)[0]), "what is kept in memory changes nothing"


def test_the_base_stays_as_it_is(toy: Toy) -> None:
    lesson = toy.lesson(1)
    before = {name: value.clone() for name, value in lesson.vlm.model.named_parameters() if "lora_" not in name}
    train(lesson, StepCallbacks(), 1)
    after = dict(lesson.vlm.model.named_parameters())
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_the_vector_is_the_model(toy: Toy) -> None:
    """θ and g are what the model's parameters and their gradients are windows on."""
    lesson = toy.lesson(1)
    live = dict(lesson.vlm.model.named_parameters())
    assert set(lesson.weights.names) == {name for name, value in live.items() if value.requires_grad}
    lesson.weights.theta.mul_(2)
    for name, window in lesson.weights.named(lesson.weights.theta).items():
        assert torch.equal(live[name], window)
    gradient = lesson.gradient_of(lesson.samples[:2])
    assert gradient.abs().sum() > 0
    assert lesson.weights.gradient.abs().sum() == 0, "what was there is put back"
    slow = [name for name in lesson.weights.names if "multi_modal_projector" in name]
    assert sum(live[name].numel() for name in slow) == len(gradient) - lesson.weights.slow > 0


def step_of(toy: Toy, **changed: object) -> tuple[float, torch.Tensor]:
    """Loss and gradient of one step over all samples."""
    lesson = toy.lesson(1, max_norm=1e9, **changed)
    lesson.vlm.model.train()
    rows = [encode(lesson.vlm, sample, lesson.pictures) for sample in lesson.samples]
    row = _step(lesson, StepCallbacks(), rows, Step(0, 0, tuple(range(8))), _alone())
    return row["loss"], lesson.weights.gradient


def _alone():  # type: ignore[no-untyped-def]
    from adapt_infinity.training.process_group import Group

    return Group()


@pytest.mark.parametrize("budget", [1, 100, 150, 200, 300])
def test_micro_batches_change_nothing(toy: Toy, budget: int) -> None:
    (loss, gradient), (other_loss, other) = (step_of(toy, token_budget=tokens) for tokens in (budget, 10_000))
    assert loss == pytest.approx(other_loss, rel=1e-5)
    assert (gradient - other).norm() <= 1e-4 * other.norm()


def test_a_step_is_the_mean_over_all_its_answer_tokens(toy: Toy) -> None:
    """As transformers computes the loss of one batch of them all."""
    lesson = toy.lesson(1)
    rows = [encode(lesson.vlm, sample, lesson.pictures) for sample in lesson.samples]
    batch = lesson.collate(rows)
    theirs = lesson.vlm.model(**batch.inputs(lesson.vlm.device), labels=batch.labels).loss
    assert step_of(toy)[0] == pytest.approx(theirs.item(), rel=1e-4)


def test_activations_may_be_computed_twice(toy: Toy) -> None:
    plain, log, _ = toy.train("finetune", 1, epochs=1)
    again, other, _ = toy.train("finetune", 1, epochs=1, gradient_checkpointing=True)
    assert other["loss"].tolist() == pytest.approx(log["loss"].tolist(), rel=1e-5)
    assert all(torch.allclose(tensor, again.tensors[name], atol=1e-5) for name, tensor in plain.tensors.items())


@pytest.mark.parametrize("slow", ["multi_modal_projector", "q_proj"])  # last by name, and in the midst
def test_what_is_slow_learns_at_a_rate_of_its_own(toy: Toy, slow: str) -> None:
    """Adam's first step is the rate, up to the sign of the gradient, wherever there is one."""
    lesson = toy.lesson(1, batch_size=8, warm_up=0.0, projector=slow)
    before = lesson.weights.theta.clone()
    train(lesson, StepCallbacks(), 1)
    moved = lesson.weights.named((lesson.weights.theta - before).abs())
    for name, part in moved.items():
        rate = PARAMS.projector_learning_rate if slow in name else PARAMS.learning_rate
        assert part.max().item() == pytest.approx(rate, rel=1e-2), name


def test_weight_decay_shrinks(toy: Toy) -> None:
    kept, _, _ = toy.train("finetune", 1)
    shrunk, _, _ = toy.train("finetune", 1, weight_decay=10.0)
    assert sum(tensor.norm() for tensor in shrunk.tensors.values()) < sum(t.norm() for t in kept.tensors.values())


def test_stopping_early_keeps_the_best_weights(toy: Toy) -> None:
    """At a ruinous rate the first look is the best, and training stops after `patience` more."""
    trained, log, _ = toy.train(
        "finetune", 1, epochs=20, hold_out=0.3, learning_rate=0.2, warm_up=0.0, evaluate_every=1, patience=3
    )
    looks = log["held_out_loss"].to_numpy()
    assert log["samples"].max() <= 4
    assert len(log) < 20 * 2
    best = int(np.argmin(looks))
    assert len(log) == best + 1 + 3
    deployed = replace(toy, adapter=trained).lesson(1)
    _, back = held_out(8, 0.3, PARAMS.seed)
    samples = toy.samples(1)
    assert held_out_loss(deployed, [samples[place] for place in back]) == pytest.approx(looks[best], rel=1e-5)
    assert looks[best] < looks[-1]


def test_looking_at_what_is_kept_back_is_charged(toy: Toy) -> None:
    _, log, _ = toy.train("finetune", 1, hold_out=0.3, evaluate_every=2, patience=9)
    assert ((log["extra_tokens"] > 0) == log["held_out_loss"].notna()).all()
    assert log["held_out_loss"].notna().sum() == 2


def test_what_a_method_reads_before_and_after_is_charged(toy: Toy) -> None:
    """TIR looks at its task before the first step, and takes its importance after the last."""
    _, log, _ = toy.train("tir", 1)
    _, plain, _ = toy.train("finetune", 1)
    assert (log["extra_tokens"] > 0).tolist() == [False] * 3 + [True]
    assert (log["tokens"] > plain["tokens"]).tolist() == [False] * 3 + [True]


def test_the_memory_is_read_once(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading scans the pool's files: a method that looks back at every step must not do it at every step."""
    reads = []
    rows = Pool.rows

    def counted(self: Pool, ids: object = None) -> object:
        reads.append(ids)
        return rows(self, ids)  # type: ignore[arg-type]

    monkeypatch.setattr(Pool, "rows", counted)
    lesson = toy.lesson(2)
    drawn = [lesson.remembered(3, step) for step in range(40)]
    assert len(reads) == 2, "the round's samples, and the memory"
    assert len({sample.sample_id for some in drawn for sample in some}) == 8
    assert lesson.memory.samples([5, 2, 5]) == [lesson.memory.known[number] for number in (5, 2, 5)]


def test_what_is_encoded_is_kept_while_it_fits(toy: Toy) -> None:
    roomy, full = toy.lesson(1), toy.lesson(1, cache_mb=0)
    for lesson, same_again in ((roomy, True), (full, False)):
        first, second = (lesson.encoded(lesson.samples[0]) for _ in range(2))
        assert (first is second) == same_again
        assert torch.equal(first.input_ids, second.input_ids)


def test_samples_kept_back_are_not_trained_on() -> None:
    learnt, back = held_out(10, 0.3, seed=1)
    assert len(back) == 3
    assert sorted([*learnt, *back]) == list(range(10))
    assert len(held_out(10, 0.0, seed=1)[1]) == 0
    assert len(held_out(1, 0.9, seed=1)[0]) == 1


@pytest.mark.parametrize("executor", executors.names())
@pytest.mark.usefixtures("cluster")
def test_two_processes_train_as_one(toy: Toy, executor: str) -> None:
    alone, log, _ = toy.train("lwf", 1, token_budget=100)
    killed = toy.folder / "lwf-1/together"
    killed.mkdir(parents=True)
    (killed / "rendezvous").write_bytes(b"of a training that was killed")
    together, other, state = toy.train("lwf", 1, token_budget=100, executor=executor, workers=2)
    assert not killed.exists()
    assert other["loss"].tolist() == pytest.approx(log["loss"].tolist(), rel=1e-3)
    for column in ("tokens", "extra_tokens"):  # the teacher's passes are shared out too, and all are counted
        assert other[column].tolist() == log[column].tolist()
    assert log["extra_tokens"].tolist() == log["tokens"].tolist()
    assert state.method == "lwf"
    apart = torch.cat([(tensor - together.tensors[name]).flatten() for name, tensor in alone.tensors.items()])
    moved = torch.cat([(tensor - toy.adapter.tensors[name]).flatten() for name, tensor in alone.tensors.items()])
    assert apart.norm() < 0.02 * moved.norm(), "sums in another order, through Adam"


def test_one_worker_on_a_cluster_is_there_and_not_here(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    def together(name: str) -> executors.RunTogether:
        def refuse(function: object, shared: object, workers: int) -> None:
            asked.append((name, workers))
            raise RuntimeError("asked")

        return refuse

    monkeypatch.setattr(executors, "load_run_together", together)
    toy.train("finetune", 1)
    assert asked == []
    with pytest.raises(RuntimeError, match="asked"):
        toy.train("finetune", 1, executor="ray")
    assert asked == [("ray", 1)]


def train_for_ever(toy: Toy) -> None:
    """Whoever calls this is to be killed, and the sixth step is when."""
    torch.set_num_threads(1)

    def die(step: int, values: dict[str, float]) -> None:
        if step == 5:
            os.kill(os.getpid(), signal.SIGKILL)

    with loss_events.heard_by(die):
        toy.train("ema", 1, epochs=4, checkpoint_every=2)


def test_killed_in_the_middle_it_ends_with_the_same_weights(toy: Toy) -> None:
    worker = multiprocessing.get_context("spawn").Process(target=train_for_ever, args=(toy,))
    worker.start()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    seen: list[int] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with loss_events.heard_by(lambda step, _: seen.append(step)):
        resumed, _, _ = toy.train("ema", 1, epochs=4, checkpoint_every=2)
    whole, _, _ = toy.train("ema", 1, epochs=4)
    torch.set_num_threads(threads)
    assert seen == [4, 5, 6, 7]
    assert same(resumed, whole)


def test_a_checkpoint_of_another_training_is_not_used(toy: Toy) -> None:
    def die(step: int, values: dict[str, float]) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with loss_events.heard_by(die), pytest.raises(KeyboardInterrupt):
        toy.train("finetune", 2, checkpoint_every=1)
    seen: list[int] = []
    with loss_events.heard_by(lambda step, _: seen.append(step)):
        toy.train("finetune", 2, checkpoint_every=1, learning_rate=1e-3)
    assert seen == [0, 1, 2, 3]


def test_merge_then_new_rests_on_what_was_learned(toy: Toy) -> None:
    """Before its first step the new adapter changes nothing: the model is the one that the round began with."""
    trained, log, _ = toy.train("finetune", 1, adapter_policy="merge_then_new")
    assert (trained.frozen_rank, trained.config["r"], trained.config["lora_alpha"]) == (4, 8, 16)
    assert trained.record["policy"] == "merge_then_new"
    _, plain, _ = toy.train("finetune", 1)
    assert log["loss"].iloc[0] == pytest.approx(plain["loss"].iloc[0], rel=1e-4)
    ours = load_vlm(toy.base, toy.model, trained)
    assert sum("lora_A" in name for name, _ in ours.model.named_parameters()) == len(toy.adapter.tensors) / 2
    merged = Adapter(trained.config, trained.tensors, trained.record)  # as any PEFT reader sees it: all ranks live
    assert logits_of(toy, ours) == pytest.approx(logits_of(toy, load_vlm(toy.base, toy.model, merged)), abs=2e-4)
    assert same(detach(ours, {}), trained)


@pytest.mark.parametrize("policy", adapter_policy.POLICIES)
def test_the_base_is_read_once(toy: Toy, policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 7B it is 14 GB, from a disk that others read, too."""
    from transformers import AutoModelForImageTextToText as Models

    reads, whole = [], Models.from_pretrained

    def read(place: str, **how: object) -> object:
        reads.append(place)
        return whole(place, **how)

    monkeypatch.setattr(Models, "from_pretrained", read)
    toy.train("finetune", 1, adapter_policy=policy)
    assert reads == [str(toy.base.location)]


def logits_of(toy: Toy, vlm: Vlm) -> np.ndarray:
    from adapt_infinity.model.checkpoint import answer_logits
    from adapt_infinity.model.prompts import collate, pad_token

    rows = [encode(vlm, sample, toy.all_pictures) for sample in toy.samples(1)[:4]]
    with torch.no_grad():
        found: np.ndarray = answer_logits(vlm, collate(rows, pad_token(vlm)))[0].numpy()
    return found


def test_split_and_join_are_inverse(warm_adapter: Adapter) -> None:
    both = join_ranks(warm_adapter.tensors, warm_adapter)
    frozen, live = split_ranks(both)
    assert (both.config["r"], both.frozen_rank, live.config) == (8, 4, warm_adapter.config)
    assert all(torch.equal(frozen[name], tensor) for name, tensor in warm_adapter.tensors.items())
    assert same(live, warm_adapter)


def test_a_new_adapter_must_count_as_much_as_the_old_one(toy: Toy) -> None:
    other = replace(toy, model=replace(toy.model, adapter_alpha=4))
    with pytest.raises(ValueError, match="the previous adapter has 2, the new one 1"):
        other.train("finetune", 1, adapter_policy="merge_then_new")


def test_a_method_says_which_adapter_policy_it_can_work_with(toy: Toy) -> None:
    with pytest.raises(ValueError, match=r"training.method=o_lora needs training.adapter_policy=merge_then_new"):
        toy.train("o_lora", 1, adapter_policy="continue")
    with pytest.raises(ValueError, match="there is no 'ewk' in methods"):
        train_adapter(
            *(toy.pools[1], all_of(toy.pools[1], 2), toy.pictures, toy.base, toy.adapter, start_state(), toy.folder),
            *(toy.model, replace(PARAMS, method="ewk"), AS_SHIPPED, 1),
        )


def test_warm_up_gives_every_b_a_value(toy: Toy) -> None:
    warm, log, state = warm_up_adapter(
        toy.pools[1].shards[0].rows,
        toy.pictures,
        toy.base,
        toy.model,
        PARAMS,
        WarmUpParams(samples=5, epochs=1),
    )
    assert log["samples"].sum() == 5
    assert all(tensor.abs().max() > 0 for name, tensor in warm.tensors.items() if "lora_B" in name)
    assert state == start_state()


def test_a_subset_that_cannot_be_trained_on_is_refused(toy: Toy) -> None:
    subset = all_of(toy.pools[1], 2)
    strange = subset.assign(sample_id=subset["sample_id"] + 1000)
    for wrong, message in ((strange, "2 samples that are not in the pool"), (subset.head(0), "the subset is empty")):
        with pytest.raises(ValueError, match=message):
            train_adapter(
                *(toy.pools[1], wrong, toy.pictures, toy.base, toy.adapter, start_state(), toy.folder),
                *(toy.model, PARAMS, AS_SHIPPED, 1),
            )


def test_a_ruinous_rate_is_named(toy: Toy) -> None:
    broken = Adapter(
        toy.adapter.config,
        {name: tensor * float("inf") for name, tensor in toy.adapter.tensors.items()},
        toy.adapter.record,
    )
    with pytest.raises(ValueError, match=r"training.learning_rate 0.005 may be too high"):
        replace(toy, adapter=broken).train("finetune", 1)


def test_the_loss_can_be_listened_to(toy: Toy) -> None:
    heard: list[tuple[int, float]] = []
    with loss_events.heard_by(lambda step, values: heard.append((step, values["loss"]))):
        _, log, _ = toy.train("finetune", 1)
    assert heard == list(zip(log["step"], log["loss"], strict=True))


@given(st.lists(st.integers(1, 500), min_size=1, max_size=300), st.integers(1, 40), st.integers(0, 5))
def test_an_epoch_takes_every_sample_once(lengths: list[int], batch_size: int, epoch: int) -> None:
    gathered = epoch_batches(lengths, batch_size, seed=0, epoch=epoch)
    assert sorted(place for places in gathered for place in places) == list(range(len(lengths)))
    assert len(gathered) == -(-len(lengths) // batch_size)
    assert gathered == epoch_batches(lengths, batch_size, seed=0, epoch=epoch)


def test_the_rate_rises_then_falls_to_nothing() -> None:
    rates = [cosine(step, 100, 0.1) for step in range(101)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[10] == 1
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"learning_rate": 0.0}, "training.learning_rate must be greater than 0, got 0"),
        ({"adapter_policy": "merge"}, "training.adapter_policy must be continue or merge_then_new, got 'merge'"),
        ({"hold_out": 1.0}, "training.hold_out must be at least 0 and less than 1, got 1"),
        ({"patience": 0}, "training.patience must be at least 1, got 0"),
        ({"executor": "rya"}, "training.executor must be local or ray, got 'rya'"),
    ],
)
def test_parameters_name_key_and_value(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingParams(**{**vars(PARAMS), **wrong})


def test_adapters_of_other_models_are_not_mixed_up(toy: Toy, tmp_path: Path) -> None:
    """What rests is part of an adapter's name: the same tensors, all live, are another adapter."""
    from adapt_infinity.model.lora import adapter_digest, read_adapter, write_adapter

    resting = join_ranks(toy.adapter.tensors, new_adapter(load_vlm(toy.base, toy.model), toy.model, 3))
    live = Adapter(resting.config, resting.tensors, resting.record)
    assert adapter_digest(resting) != adapter_digest(live)
    write_adapter(resting, tmp_path / "adapter")
    read = read_adapter(tmp_path / "adapter")
    assert adapter_digest(read) == adapter_digest(resting)
    assert read.record == resting.record
