"""A round's training, whole: the adapter begins, the method takes its part, and what they leave is handed on."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import torch

from adapt_infinity import executors
from adapt_infinity.data import parquet
from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import Sample, samples_of
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, attach, detach, load_vlm, new_adapter
from adapt_infinity.model.lora import Adapter, read_adapter, write_adapter
from adapt_infinity.pool.pool import Pool
from adapt_infinity.training import adapter_policy, loss_events, methods
from adapt_infinity.training.checkpoints import Checkpoints, fingerprint
from adapt_infinity.training.context import ReplayMemory, StepCallbacks, TrainingContext
from adapt_infinity.training.loop import train
from adapt_infinity.training.method_state import MethodState, own_state, read_state, start_state, write_state
from adapt_infinity.training.parameter_vector import gather
from adapt_infinity.training.params import TrainingParams, WarmUpParams
from adapt_infinity.training.process_group import Group, join_group, leave_group
from adapt_infinity.training.schedule import held_out


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """Everything that a round's training starts from; it can be sent to another process."""

    samples: list[Sample]
    held: list[Sample]  # kept back, to stop early by
    memory: ReplayMemory
    pictures: Pictures
    base_model: Checkpoint
    previous_adapter: Adapter
    state: MethodState
    model_params: ModelParams
    params: TrainingParams
    method_params: Any
    round: int
    checkpoints: Checkpoints


Outcome = tuple[Adapter, pd.DataFrame, MethodState]


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
) -> Outcome:
    """The adapter after this round, the log (see `engine.train`) and what the method hands on.

    `method_params` is `params:methods`. `ValueError` when the subset is empty or names samples that are not in the
    pool, and when the method cannot go on from the round before.
    """
    own = methods.params_of(params.method, method_params)
    methods.check_adapter_policy(params.method, params.adapter_policy)
    state = own_state(previous_method_state, params.method)
    if previous_adapter.adapter_type.get("kind", params.method) != params.method:
        raise ValueError(
            f"the round before made an adapter of {previous_adapter.adapter_type['kind']}, which training.method="
            f"{params.method} cannot train: keep the method through a stream"
        )
    memory = ReplayMemory(pool, round)
    ids = _chosen(pool, subset)
    choose = getattr(methods.load(params.method), "choose", None)
    if choose is not None:
        ids = np.sort(choose(ids, memory, own, params.seed))
    rows = pool.rows(ids)
    learnt, back = held_out(len(rows), params.hold_out, params.seed)
    samples = samples_of(rows)
    decisive = replace(params, executor="local", workers=1, checkpoint_every=0)
    name = fingerprint(
        *(previous_adapter, state, rows["content_hash"].tolist(), memory.ids.tolist()),
        *(str(base_model.location), model_params, decisive, own, round),
    )
    assignment = Assignment(
        samples=[samples[place] for place in learnt],
        held=[samples[place] for place in back],
        memory=memory,
        pictures=pictures,
        base_model=base_model,
        previous_adapter=previous_adapter,
        state=state,
        model_params=model_params,
        params=params,
        method_params=own,
        round=round,
        checkpoints=Checkpoints(checkpoints.resolve() / "training.safetensors", name, params.checkpoint_every),
    )
    workers = params.workers or max(1, executors.gpu_count(params.executor))
    here = executors.on_this_machine(params.executor) and workers == 1
    outcome = fit(assignment) if here else fit_together(assignment, workers)
    assignment.checkpoints.clear()
    return outcome


def warm_up_adapter(
    first_arrivals: ds.Dataset,
    pictures: Pictures,
    base_model: Checkpoint,
    model_params: ModelParams,
    params: TrainingParams,
    warm_up: WarmUpParams,
) -> Outcome:
    """Round 0's adapter: fresh, then trained on a small random part of the first arrivals (as LESS does, and [P]).

    Whatever method the stream trains by, this is plain fine-tuning: there is nothing to forget yet.
    """
    draw = np.random.default_rng([params.seed, 0])
    places = np.sort(draw.permutation(first_arrivals.count_rows())[: warm_up.samples])
    samples = samples_of(parquet.take(first_arrivals, places).to_pandas())
    base = load_vlm(base_model, model_params)
    vlm = attach(base, new_adapter(base, model_params, params.seed))
    weights = gather(vlm, params.projector)
    lesson = TrainingContext(vlm, weights, samples, pictures, ReplayMemory(Pool(), 0), params, 0)
    log, moments = train(lesson, StepCallbacks(), warm_up.epochs)
    record = {"policy": "warm_up", "rounds": [0], "steps": len(log), "moment_steps": len(log)}
    return detach(vlm, record, moments), log, start_state()


def fit(assignment: Assignment, group: Group | None = None) -> Outcome:
    """Train, in this process or in this and others."""
    params, previous = assignment.params, assignment.previous_adapter
    vlm = adapter_policy.begin(
        assignment.base_model, assignment.model_params, previous, params.adapter_policy, params.seed, assignment.round
    )
    method = methods.load(params.method)
    if hasattr(method, "shape"):
        vlm = method.shape(vlm, assignment.memory, params, assignment.method_params)
    weights = gather(vlm, params.projector)
    lesson = TrainingContext(
        vlm, weights, assignment.samples, assignment.pictures, assignment.memory, params, assignment.round
    )
    course = method.start(lesson, assignment.state, assignment.method_params)
    begun = replace(lesson.meter)
    log, moments = train(lesson, course, params.epochs, assignment.held, assignment.checkpoints, group or Group())
    trained = replace(lesson.meter)
    state = course.at_end()
    # what the method read before the first step and after the last one is charged to the last one
    log.loc[log.index[-1], "tokens"] += begun.learnt + lesson.meter.learnt - trained.learnt
    log.loc[log.index[-1], "extra_tokens"] += begun.read + lesson.meter.read - trained.read
    return detach(vlm, _record(previous, params, assignment.round, log), moments), log, state


def fit_together(assignment: Assignment, workers: int) -> Outcome:
    """Train in `workers` processes, one a GPU or, on CPUs, with a share of the cores each. They meet, and leave what
    they made, beside the checkpoints: other machines see that folder, too.
    """
    place = assignment.checkpoints.path.with_name("together")
    shutil.rmtree(place, ignore_errors=True)  # of a training that was killed
    place.mkdir(parents=True)
    executors.load_run_together(assignment.params.executor)(_work, (assignment, workers, place), workers)
    log = pd.read_parquet(place / "log.parquet")
    for row in log.to_dict("records"):  # nobody heard what was told in other processes
        loss_events.tell(row["step"], {name: row[name] for name in loss_events.TOLD})
    outcome = read_adapter(place / "adapter"), log, read_state(place / "state")
    shutil.rmtree(place)
    return outcome


def _work(shared: tuple[Assignment, int, Path], rank: int) -> None:
    """One of the processes; the first leaves what they made in the folder."""
    assignment, workers, place = shared
    params, near = assignment.model_params, executors.on_this_machine(assignment.params.executor)
    if torch.cuda.is_available() and params.device in ("auto", "cuda"):
        params = replace(params, device=f"cuda:{rank % torch.cuda.device_count()}")  # of those that it sees
    elif near:
        torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    device = torch.device("cpu" if params.device == "auto" else params.device)
    group = join_group(rank, workers, str(place / "rendezvous"), device, near)
    adapter, log, state = fit(replace(assignment, model_params=params), group)
    if group.first:
        write_adapter(adapter, place / "adapter")
        log.to_parquet(place / "log.parquet")
        write_state(state, place / "state")
    leave_group()


def _chosen(pool: Pool, subset: pd.DataFrame) -> np.ndarray:
    chosen = subset.loc[subset["selected"], "sample_id"]
    absent = chosen[~chosen.isin(pool.index["sample_id"])]
    if len(absent):
        raise ValueError(f"the subset names {len(absent)} samples that are not in the pool: {absent.tolist()[:5]}")
    if chosen.empty:
        raise ValueError("the subset is empty: there is nothing to train on; see subset.budget and subset.exclude")
    return np.sort(chosen.to_numpy())


def _record(previous: Adapter, params: TrainingParams, round: int, log: pd.DataFrame) -> Mapping[str, Any]:
    return {
        "policy": params.adapter_policy,
        "method": params.method,
        "rounds": [*previous.record["rounds"], round],
        "steps": previous.record["steps"] + len(log),
        "moment_steps": len(log),
    }
