"""The training of one round: from the selected samples and the previous adapter to a new adapter, its log and the
method's state; and the warm-up of a new adapter at genesis.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import torch

from adapt_infinity import executors
from adapt_infinity.data import parquet
from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import Sample, samples_of
from adapt_infinity.data.tables import require_columns
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, attach, detach, load_vlm, new_adapter
from adapt_infinity.model.lora import Adapter, read_adapter, write_adapter
from adapt_infinity.pool.pool import Pool
from adapt_infinity.training import loss_events, methods
from adapt_infinity.training.adapter_policy import StartingModel, load_for_round
from adapt_infinity.training.checkpoints import Checkpoints, fingerprint
from adapt_infinity.training.context import ReplayMemory, StepCallbacks, TrainingContext
from adapt_infinity.training.loop import SINGLE_PROCESS, train
from adapt_infinity.training.method_state import MethodState, read_state, start_state, state_for, write_state
from adapt_infinity.training.parameter_vector import collect_weights
from adapt_infinity.training.params import TrainingParams, WarmUpParams
from adapt_infinity.training.process_group import Group, join_group, leave_group
from adapt_infinity.training.schedule import split_held_out

NOT_DECISIVE = ("executor", "workers", "checkpoint_every")  # parameters of training that do not change its result
TrainingOutputs = tuple[Adapter, pd.DataFrame, MethodState]
"""Adapter, training log and method state: the catalog entries that a training writes."""


@dataclass(frozen=True)
class TrainingData:
    """The samples of one training."""

    samples: list[Sample]
    held_out: list[Sample]  # evaluated for early stopping, not trained on
    memory: ReplayMemory
    pictures: Pictures
    content_hashes: list[str]  # of `samples` and `held_out` together, by ascending sample_id


@dataclass(frozen=True)
class MethodSetup:
    """A training method with its parameters, and the state that it starts from."""

    name: str
    params: Any  # the method's `Params`
    state: MethodState

    @property
    def module(self) -> ModuleType:
        """The method's file."""
        return methods.load(self.name)


@dataclass(frozen=True)
class TrainingJob:
    """Everything that the training of one round starts from; it can be sent to another process."""

    start: StartingModel
    data: TrainingData
    method: MethodSetup
    params: TrainingParams
    checkpoints: Checkpoints


def train_adapter(
    pool: Pool,
    subset: pd.DataFrame,
    pictures: Pictures,
    base_model: Checkpoint,
    previous_adapter: Adapter,
    previous_method_state: MethodState,
    checkpoints: Path,
    model_params: ModelParams,
    params: TrainingParams,
    method_params: dict[str, Any],
    round: int,
) -> TrainingOutputs:
    """Train on the selected samples; returns the adapter, the log (see `loop.train`) and the method's state.

    `subset` has the columns sample_id and selected. `checkpoints` is the folder from which a killed training continues;
    `method_params` is `params:methods`. `ValueError` when the subset lacks a column, is empty or names samples that are
    not in the pool, and when the method cannot continue from the previous round's adapter or state.
    """
    start = StartingModel(base_model, model_params, previous_adapter)
    method = _set_up_method(params, method_params, previous_adapter, previous_method_state)
    data = _read_samples(subset, ReplayMemory(pool, round), pictures, method, params)
    file = checkpoints.resolve() / "training.safetensors"
    identity = _fingerprint(start, data, method, params)
    return run_training(TrainingJob(start, data, method, params, Checkpoints(file, identity, params.checkpoint_every)))


def run_training(job: TrainingJob) -> TrainingOutputs:
    """Train in this process, or in several where `training.workers` and `training.executor` say so."""
    workers = job.params.workers or max(1, executors.gpu_count(job.params.executor))
    in_process = workers == 1 and executors.on_this_machine(job.params.executor)
    outputs = train_in_process(job) if in_process else train_in_workers(job, workers)
    job.checkpoints.clear()
    return outputs


def warm_up_adapter(
    first_arrivals: ds.Dataset,
    pictures: Pictures,
    base_model: Checkpoint,
    model_params: ModelParams,
    params: TrainingParams,
    warm_up: WarmUpParams,
) -> TrainingOutputs:
    """The adapter of round 0: a new LoRA, trained on a few random samples of the first arrival
    (docs/method.md, section 2).

    `first_arrivals` are rows of SAMPLE_SCHEMA. Whatever the method of the stream is, this is plain fine-tuning, because
    nothing can be forgotten yet.
    """
    order = np.random.default_rng([params.seed, 0]).permutation(first_arrivals.count_rows())
    samples = samples_of(parquet.take(first_arrivals, np.sort(order[: warm_up.samples])).to_pandas())
    base = load_vlm(base_model, model_params)
    vlm = attach(base, new_adapter(base, model_params, params.seed))
    weights = collect_weights(vlm, params.projector)
    context = TrainingContext(vlm, weights, samples, pictures, ReplayMemory(Pool(), 0), params)
    log, moments = train(context, StepCallbacks(), warm_up.epochs)
    record = {"policy": "warm_up", "rounds": [0], "steps": len(log), "moment_steps": len(log)}
    return detach(vlm, record, moments), log, start_state()


def train_in_process(job: TrainingJob, group: Group = SINGLE_PROCESS) -> TrainingOutputs:
    """Train in this process, alone or as one of the processes of `group`."""
    params, data, method = job.params, job.data, job.method
    vlm = load_for_round(job.start, params.adapter_policy, params.seed, data.memory.round)
    if hasattr(method.module, "prepare_adapter"):
        vlm = method.module.prepare_adapter(vlm, data.memory, params, method.params)
    weights = collect_weights(vlm, params.projector)
    context = TrainingContext(vlm, weights, data.samples, data.pictures, data.memory, params)
    callbacks = method.module.start(context, method.state, method.params)
    at_start = replace(context.tokens)
    log, moments = train(context, callbacks, params.epochs, data.held_out, job.checkpoints, group)
    after_steps = replace(context.tokens)
    state = callbacks.at_end()
    # the method's passes before the first step and after the last one are counted in the last row
    log.loc[log.index[-1], "tokens"] += at_start.trained + context.tokens.trained - after_steps.trained
    log.loc[log.index[-1], "extra_tokens"] += (
        at_start.forward_only + context.tokens.forward_only - after_steps.forward_only
    )
    record = _record(job.start.previous_adapter, params, data.memory.round, log)
    return detach(vlm, record, moments), log, state


def train_in_workers(job: TrainingJob, workers: int) -> TrainingOutputs:
    """Train in `workers` processes: one per GPU, or on CPUs each with a share of the cores.

    The processes connect, and the first of them leaves the outputs, in a folder beside the checkpoints, which other
    machines must see too.
    """
    folder = job.checkpoints.path.with_name("together")
    shutil.rmtree(folder, ignore_errors=True)  # of a training that was killed
    folder.mkdir(parents=True)
    executors.load_run_together(job.params.executor)(_run_worker, (job, workers, folder), workers)
    log = pd.read_parquet(folder / "log.parquet")
    for row in log.to_dict("records"):  # the workers' own events do not reach this process
        loss_events.emit(row["step"], {name: row[name] for name in loss_events.VALUES})
    outputs = read_adapter(folder / "adapter"), log, read_state(folder / "state")
    shutil.rmtree(folder)
    return outputs


def _run_worker(shared: tuple[TrainingJob, int, Path], rank: int) -> None:
    """The work of one process; the first one writes the outputs to the folder."""
    job, workers, folder = shared
    model_params, same_machine = job.start.model_params, executors.on_this_machine(job.params.executor)
    if torch.cuda.is_available() and model_params.device in ("auto", "cuda"):
        model_params = replace(model_params, device=f"cuda:{rank % torch.cuda.device_count()}")  # of the visible GPUs
    elif same_machine:
        torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    device = torch.device("cpu" if model_params.device == "auto" else model_params.device)
    group = join_group(rank, workers, str(folder / "rendezvous"), device, same_machine)
    start = replace(job.start, model_params=model_params)
    adapter, log, state = train_in_process(replace(job, start=start), group)
    if group.is_first:
        write_adapter(adapter, folder / "adapter")
        log.to_parquet(folder / "log.parquet")
        write_state(state, folder / "state")
    leave_group()


def _set_up_method(
    params: TrainingParams, method_params: Mapping[str, Any], previous: Adapter, previous_state: MethodState
) -> MethodSetup:
    """The method of `training.method`; `ValueError` when it cannot continue from the previous adapter or state."""
    own_params = methods.params_of(params.method, method_params)
    methods.check_adapter_policy(params.method, params.adapter_policy)
    state = state_for(params.method, previous_state)
    if previous.adapter_type.get("kind", params.method) != params.method:
        raise ValueError(
            f"the round before made an adapter of {previous.adapter_type['kind']}, which training.method="
            f"{params.method} cannot train: keep the method through a stream"
        )
    return MethodSetup(params.method, own_params, state)


def _read_samples(
    subset: pd.DataFrame, memory: ReplayMemory, pictures: Pictures, method: MethodSetup, params: TrainingParams
) -> TrainingData:
    """The selected samples, with the method's replacements, split into training and held-out samples."""
    ids = _selected_ids(memory.pool, subset)
    if hasattr(method.module, "replace_samples"):
        ids = np.sort(method.module.replace_samples(ids, memory, method.params, params.seed))
    rows = memory.pool.rows(ids)
    trained, held_out = split_held_out(len(rows), params.hold_out, params.seed)
    samples = samples_of(rows)
    return TrainingData(
        samples=[samples[place] for place in trained],
        held_out=[samples[place] for place in held_out],
        memory=memory,
        pictures=pictures,
        content_hashes=rows["content_hash"].tolist(),
    )


def _selected_ids(pool: Pool, subset: pd.DataFrame) -> np.ndarray:
    require_columns(subset, "subset", ["sample_id", "selected"])
    selected = subset.loc[subset["selected"], "sample_id"]
    absent = selected[~selected.isin(pool.index["sample_id"])]
    if len(absent):
        raise ValueError(f"the subset names {len(absent)} samples that are not in the pool: {absent.tolist()[:5]}")
    if selected.empty:
        raise ValueError("the subset is empty: there is nothing to train on; see subset.budget and subset.exclude")
    return np.sort(selected.to_numpy())


def _fingerprint(start: StartingModel, data: TrainingData, method: MethodSetup, params: TrainingParams) -> str:
    """What identifies this training, so that it only continues from its own checkpoint."""
    decisive = {name: value for name, value in vars(params).items() if name not in NOT_DECISIVE}
    samples = (data.content_hashes, data.memory.ids.tolist(), data.memory.round)
    model = (str(start.base_model.location), start.model_params)
    return fingerprint(start.previous_adapter, method.state, *samples, *model, decisive, method.params)


def _record(previous: Adapter, params: TrainingParams, round: int, log: pd.DataFrame) -> Mapping[str, Any]:
    """How the adapter came to be: what `record.json` beside it says."""
    return {
        "policy": params.adapter_policy,
        "method": params.method,
        "rounds": [*previous.record["rounds"], round],
        "steps": previous.record["steps"] + len(log),
        "moment_steps": len(log),
    }
