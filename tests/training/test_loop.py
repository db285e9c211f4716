"""Training: only the adapter is trained, every sample is read once per epoch, and equal seeds give equal weights."""

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
from adapt_infinity.training.schedule import Step, cosine_schedule, epoch_batches, split_held_out
from tests.training.usual import DEFAULTS, PARAMS, Toy, first_rows, same


def test_only_the_adapter_is_trained(toy: Toy) -> None:
    trained, log, _ = toy.train("finetune", 1, epochs=8)
    assert len(log) == 8 * 2  # epochs times steps
    assert log["samples"].sum() == 8 * 8
    assert log["loss"].iloc[-2:].mean() < 0.5 * log["loss"].iloc[:2].mean()
    assert all(not torch.equal(tensor, toy.adapter.tensors[name]) for name, tensor in trained.tensors.items())
    history = {"rounds": [1], "steps": 16, "moment_steps": 16}
    assert trained.record == {"policy": "continue", "method": "finetune", **history}
    assert {name.rsplit(".", 1)[1] for name in trained.moments} == {"exp_avg", "exp_avg_sq"}
    assert all(moment.abs().sum() > 0 for moment in trained.moments.values())
    assert same(trained, toy.train("finetune", 1, epochs=8, cache_mb=0)[0]), "the cache changes nothing"


def test_the_base_weights_stay_unchanged(toy: Toy) -> None:
    context = toy.context(1)
    before = {name: value.clone() for name, value in context.vlm.model.named_parameters() if "lora_" not in name}
    train(context, StepCallbacks(), 1)
    after = dict(context.vlm.model.named_parameters())
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_the_models_parameters_are_views_of_the_vector(toy: Toy) -> None:
    """The parameters are views of θ, and their gradients are views of g."""
    context = toy.context(1)
    live = dict(context.vlm.model.named_parameters())
    assert set(context.weights.names) == {name for name, value in live.items() if value.requires_grad}
    context.weights.theta.mul_(2)
    for name, view in context.weights.views(context.weights.theta).items():
        assert torch.equal(live[name], view)
    gradient = context.gradient_of(context.samples[:2])
    assert gradient.abs().sum() > 0
    assert context.weights.gradient.abs().sum() == 0, "the gradient is restored"
    projector = [name for name in context.weights.names if "multi_modal_projector" in name]
    assert sum(live[name].numel() for name in projector) == len(gradient) - context.weights.projector_start > 0


def step_of(toy: Toy, **changed: object) -> tuple[float, torch.Tensor]:
    """Loss and gradient of one step over all samples."""
    context = toy.context(1, max_norm=1e9, **changed)
    context.vlm.model.train()
    rows = [encode(context.vlm, sample, context.pictures) for sample in context.samples]
    row = _step(context, StepCallbacks(), rows, Step(0, 0, tuple(range(8))), _alone())
    return row["loss"], context.weights.gradient


def _alone():  # type: ignore[no-untyped-def]
    from adapt_infinity.training.process_group import Group

    return Group()


@pytest.mark.parametrize("budget", [1, 100, 150, 200, 300])
def test_micro_batches_do_not_change_the_gradient(toy: Toy, budget: int) -> None:
    (loss, gradient), (other_loss, other) = (step_of(toy, token_budget=tokens) for tokens in (budget, 10_000))
    assert loss == pytest.approx(other_loss, rel=1e-5)
    assert (gradient - other).norm() <= 1e-4 * other.norm()


def test_a_step_is_the_mean_over_all_its_answer_tokens(toy: Toy) -> None:
    """It equals the loss that transformers computes of one batch of all samples."""
    context = toy.context(1)
    rows = [encode(context.vlm, sample, context.pictures) for sample in context.samples]
    batch = context.collate(rows)
    reference = context.vlm.model(**batch.inputs(context.vlm.device), labels=batch.labels).loss
    assert step_of(toy)[0] == pytest.approx(reference.item(), rel=1e-4)


def test_gradient_checkpointing_changes_nothing(toy: Toy) -> None:
    plain, log, _ = toy.train("finetune", 1, epochs=1)
    again, other, _ = toy.train("finetune", 1, epochs=1, gradient_checkpointing=True)
    assert other["loss"].tolist() == pytest.approx(log["loss"].tolist(), rel=1e-5)
    assert all(torch.allclose(tensor, again.tensors[name], atol=1e-5) for name, tensor in plain.tensors.items())


@pytest.mark.parametrize("projector", ["multi_modal_projector", "q_proj"])  # last by name, and in between
def test_the_projector_has_its_own_learning_rate(toy: Toy, projector: str) -> None:
    """Adam's first step has the size of the learning rate wherever the gradient is not 0."""
    context = toy.context(1, batch_size=8, warm_up=0.0, projector=projector)
    before = context.weights.theta.clone()
    train(context, StepCallbacks(), 1)
    changes = context.weights.views((context.weights.theta - before).abs())
    for name, part in changes.items():
        rate = PARAMS.projector_learning_rate if projector in name else PARAMS.learning_rate
        assert part.max().item() == pytest.approx(rate, rel=1e-2), name


def test_weight_decay_makes_weights_smaller(toy: Toy) -> None:
    plain, _, _ = toy.train("finetune", 1)
    shrunk, _, _ = toy.train("finetune", 1, weight_decay=10.0)
    assert sum(tensor.norm() for tensor in shrunk.tensors.values()) < sum(t.norm() for t in plain.tensors.values())


def test_early_stopping_keeps_the_best_weights(toy: Toy) -> None:
    """At a much too high learning rate training stops `patience` evaluations after the best one."""
    trained, log, _ = toy.train(
        "finetune", 1, epochs=20, hold_out=0.3, learning_rate=0.2, warm_up=0.0, evaluate_every=1, patience=3
    )
    losses = log["held_out_loss"].to_numpy()
    assert log["samples"].max() <= 4
    assert len(log) < 20 * 2
    best = int(np.argmin(losses))
    assert len(log) == best + 1 + 3
    deployed = replace(toy, adapter=trained).context(1)
    _, places = split_held_out(8, 0.3, PARAMS.seed)
    samples = toy.samples(1)
    assert held_out_loss(deployed, [samples[place] for place in places]) == pytest.approx(losses[best], rel=1e-5)
    assert losses[best] < losses[-1]


def test_evaluations_on_held_out_samples_are_counted(toy: Toy) -> None:
    _, log, _ = toy.train("finetune", 1, hold_out=0.3, evaluate_every=2, patience=9)
    assert ((log["extra_tokens"] > 0) == log["held_out_loss"].notna()).all()
    assert log["held_out_loss"].notna().sum() == 2


def test_passes_of_a_method_before_and_after_the_steps_are_counted(toy: Toy) -> None:
    """TIR embeds its task before the first step, and computes its importance after the last one."""
    _, log, _ = toy.train("tir", 1)
    _, plain, _ = toy.train("finetune", 1)
    assert (log["extra_tokens"] > 0).tolist() == [False] * 3 + [True]
    assert (log["tokens"] > plain["tokens"]).tolist() == [False] * 3 + [True]


def test_the_memory_is_read_once(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read scans the pool's files, so it must not happen in every step of a method that replays samples."""
    reads = []
    rows = Pool.rows

    def rows_recording(self: Pool, ids: object = None) -> object:
        reads.append(ids)
        return rows(self, ids)  # type: ignore[arg-type]

    monkeypatch.setattr(Pool, "rows", rows_recording)
    context = toy.context(2)
    drawn = [context.draw_replay(3, step) for step in range(40)]
    assert len(reads) == 2, "one read of the round's samples, one of the memory"
    assert len({sample.sample_id for samples in drawn for sample in samples}) == 8
    assert context.memory.samples([5, 2, 5]) == [context.memory.loaded[number] for number in (5, 2, 5)]


def test_encoded_samples_stay_in_the_cache_while_they_fit(toy: Toy) -> None:
    large, full = toy.context(1), toy.context(1, cache_mb=0)
    for context, same_again in ((large, True), (full, False)):
        first, second = (context.encoded(context.samples[0]) for _ in range(2))
        assert (first is second) == same_again
        assert torch.equal(first.input_ids, second.input_ids)


def test_held_out_samples_are_not_trained_on() -> None:
    trained, back = split_held_out(10, 0.3, seed=1)
    assert len(back) == 3
    assert sorted([*trained, *back]) == list(range(10))
    assert len(split_held_out(10, 0.0, seed=1)[1]) == 0
    assert len(split_held_out(1, 0.9, seed=1)[0]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("executor", executors.names())
@pytest.mark.usefixtures("cluster")
def test_two_processes_train_as_one(toy: Toy, executor: str) -> None:
    alone, log, _ = toy.train("lwf", 1, token_budget=100)
    killed = toy.folder / "lwf-1/together"
    killed.mkdir(parents=True)
    (killed / "rendezvous").write_bytes(b"left by a training that was killed")
    together, other, state = toy.train("lwf", 1, token_budget=100, executor=executor, workers=2)
    assert not killed.exists()
    assert other["loss"].tolist() == pytest.approx(log["loss"].tolist(), rel=1e-3)
    for column in (
        "tokens",
        "extra_tokens",
    ):  # the teacher's passes are split too, and all are counted
        assert other[column].tolist() == log[column].tolist()
    assert log["extra_tokens"].tolist() == log["tokens"].tolist()
    assert state.method == "lwf"
    difference = torch.cat([(tensor - together.tensors[name]).flatten() for name, tensor in alone.tensors.items()])
    change = torch.cat([(tensor - toy.adapter.tensors[name]).flatten() for name, tensor in alone.tensors.items()])
    assert difference.norm() < 0.02 * change.norm(), "only the order of sums differs, which Adam amplifies"


def test_a_single_worker_of_a_cluster_runs_on_the_cluster(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int]] = []

    def together(name: str) -> executors.RunTogether:
        def refuse(function: object, shared: object, workers: int) -> None:
            calls.append((name, workers))
            raise RuntimeError("called")

        return refuse

    monkeypatch.setattr(executors, "load_run_together", together)
    toy.train("finetune", 1)
    assert calls == []
    with pytest.raises(RuntimeError, match="called"):
        toy.train("finetune", 1, executor="ray")
    assert calls == [("ray", 1)]


def train_until_killed(toy: Toy) -> None:
    """Train in a process that kills itself in the sixth step."""
    torch.set_num_threads(1)

    def die(step: int, values: dict[str, float]) -> None:
        if step == 5:
            os.kill(os.getpid(), signal.SIGKILL)

    with loss_events.listening(die):
        toy.train("ema", 1, epochs=4, checkpoint_every=2)


@pytest.mark.slow
def test_a_training_killed_in_the_middle_ends_with_the_same_weights(toy: Toy) -> None:
    worker = multiprocessing.get_context("spawn").Process(target=train_until_killed, args=(toy,))
    worker.start()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    seen: list[int] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with loss_events.listening(lambda step, _: seen.append(step)):
        resumed, _, _ = toy.train("ema", 1, epochs=4, checkpoint_every=2)
    whole, _, _ = toy.train("ema", 1, epochs=4)
    torch.set_num_threads(threads)
    assert seen == [4, 5, 6, 7]
    assert same(resumed, whole)


def test_a_checkpoint_of_another_training_is_not_used(toy: Toy) -> None:
    def die(step: int, values: dict[str, float]) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with loss_events.listening(die), pytest.raises(KeyboardInterrupt):
        toy.train("finetune", 2, checkpoint_every=1)
    seen: list[int] = []
    with loss_events.listening(lambda step, _: seen.append(step)):
        toy.train("finetune", 2, checkpoint_every=1, learning_rate=1e-3)
    assert seen == [0, 1, 2, 3]


def test_merge_then_new_starts_from_the_previous_model(toy: Toy) -> None:
    """Before its first step the new adapter changes nothing: the model equals that of the round before."""
    trained, log, _ = toy.train("finetune", 1, adapter_policy="merge_then_new")
    assert (trained.frozen_rank, trained.config["r"], trained.config["lora_alpha"]) == (4, 8, 16)
    assert trained.record["policy"] == "merge_then_new"
    _, plain, _ = toy.train("finetune", 1)
    assert log["loss"].iloc[0] == pytest.approx(plain["loss"].iloc[0], rel=1e-4)
    ours = load_vlm(toy.base, toy.model, trained)
    assert sum("lora_A" in name for name, _ in ours.model.named_parameters()) == len(toy.adapter.tensors) / 2
    merged = Adapter(trained.config, trained.tensors, trained.record)  # as PEFT reads it: no rank is frozen
    assert logits_of(toy, ours) == pytest.approx(logits_of(toy, load_vlm(toy.base, toy.model, merged)), abs=2e-4)
    assert same(detach(ours, {}), trained)


@pytest.mark.parametrize("policy", adapter_policy.POLICIES)
def test_the_base_model_is_read_once(toy: Toy, policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 7B it has 14 GB, on a disk that others use too."""
    from transformers import AutoModelForImageTextToText as Models

    reads, from_pretrained = [], Models.from_pretrained

    def read(place: str, **how: object) -> object:
        reads.append(place)
        return from_pretrained(place, **how)

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


def test_a_new_adapter_must_have_the_scaling_of_the_old_one(toy: Toy) -> None:
    other = replace(toy, model=replace(toy.model, adapter_alpha=4))
    with pytest.raises(ValueError, match="the previous adapter has 2, the new one 1"):
        other.train("finetune", 1, adapter_policy="merge_then_new")


def test_an_adapter_policy_that_the_method_cannot_use_is_refused(toy: Toy) -> None:
    with pytest.raises(ValueError, match=r"training.method=o_lora needs training.adapter_policy=merge_then_new"):
        toy.train("o_lora", 1, adapter_policy="continue")


def test_warm_up_makes_every_b_nonzero(toy: Toy) -> None:
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
    subset = first_rows(toy.pools[1], 2)
    unknown = subset.assign(sample_id=subset["sample_id"] + 1000)
    unnamed = subset.drop(columns="selected")
    for wrong, message in (
        (unknown, "2 samples that are not in the pool"),
        (subset.head(0), "the subset is empty"),
        (unnamed, "subset lacks columns: selected"),
    ):
        with pytest.raises(ValueError, match=message):
            train_adapter(
                *(toy.pools[1], wrong, toy.pictures, toy.base, toy.adapter, start_state(), toy.folder),
                *(toy.model, PARAMS, DEFAULTS, 1),
            )


def test_a_loss_that_is_not_finite_names_the_learning_rate(toy: Toy) -> None:
    broken = Adapter(
        toy.adapter.config,
        {name: tensor * float("inf") for name, tensor in toy.adapter.tensors.items()},
        toy.adapter.record,
    )
    with pytest.raises(ValueError, match=r"training.learning_rate 0.005 may be too high"):
        replace(toy, adapter=broken).train("finetune", 1)


def test_loss_events_report_every_step(toy: Toy) -> None:
    events: list[tuple[int, float]] = []
    with loss_events.listening(lambda step, values: events.append((step, values["loss"]))):
        _, log, _ = toy.train("finetune", 1)
    assert events == list(zip(log["step"], log["loss"], strict=True))


@given(st.lists(st.integers(1, 500), min_size=1, max_size=300), st.integers(1, 40), st.integers(0, 5))
def test_an_epoch_contains_every_sample_once(lengths: list[int], batch_size: int, epoch: int) -> None:
    gathered = epoch_batches(lengths, batch_size, seed=0, epoch=epoch)
    assert sorted(place for places in gathered for place in places) == list(range(len(lengths)))
    assert len(gathered) == -(-len(lengths) // batch_size)
    assert gathered == epoch_batches(lengths, batch_size, seed=0, epoch=epoch)


def test_the_learning_rate_rises_and_then_falls_to_0() -> None:
    rates = [cosine_schedule(step, 100, 0.1) for step in range(101)]
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
        ({"method": "ewk"}, "training.method must be .* got 'ewk'; did you mean 'ewc'"),
        ({"executor": "rya"}, "training.executor must be local or ray, got 'rya'"),
    ],
)
def test_parameters_name_key_and_value(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingParams(**{**vars(PARAMS), **wrong})


def test_frozen_ranks_are_part_of_an_adapters_digest(toy: Toy, tmp_path: Path) -> None:
    """The same tensors with all ranks trainable are another adapter."""
    from adapt_infinity.model.lora import adapter_digest, read_adapter, write_adapter

    resting = join_ranks(toy.adapter.tensors, new_adapter(load_vlm(toy.base, toy.model), toy.model, 3))
    live = Adapter(resting.config, resting.tensors, resting.record)
    assert adapter_digest(resting) != adapter_digest(live)
    write_adapter(resting, tmp_path / "adapter")
    read = read_adapter(tmp_path / "adapter")
    assert adapter_digest(read) == adapter_digest(resting)
    assert read.record == resting.record
