"""Running the cells of a study: in worker processes of one thread and, where there are any, one GPU each, from a shared
genesis, resumable.

A cell is a stream of its own. Round 0 of a seed is made once and linked into every cell of it; what one cell's probe
has read of round 1 is linked into the others, where the probe finds the rows it would read by their fingerprint.
"""

import contextlib
import json
import os
import shutil
import signal
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd

from adapt_infinity import strategies
from adapt_infinity.executors.local import claim_gpu, queue_of_numbers, visible_gpus
from adapt_infinity.manifest import manifest_path, read_manifest, round_folder, write_manifest
from adapt_infinity.study.costs import Cost, from_json
from adapt_infinity.study.grid import ZERO_SHOT, Cell, genesis_stream
from adapt_infinity.study.results import Outcome, zero_shot


class WorkerLostError(RuntimeError):
    """A worker process has died, and with it the pool of them."""


@dataclass(frozen=True)
class Work:
    """What every cell of a study has in common; it is sent to the workers."""

    project: Path
    env: str | None
    study: str
    last: int
    params: Mapping[str, Any]  # as `--params` gives them
    variants: Mapping[str, Mapping[str, Any]]  # further parameters, by name
    budget: int  # of a round, before a cell multiplies it
    log: Path  # folder


def run_cells(work: Work, cells: Sequence[Cell], workers: int) -> Iterator[tuple[Cell, float, str]]:
    """Run what is missing. Yields each cell when it ends, with its seconds and "" or what went wrong.

    `WorkerLostError` when a worker process dies.
    """
    seeds = list(dict.fromkeys(cell.seed for cell in cells))
    todo = [cell for cell in cells if cell.data_strategy != ZERO_SHOT]
    work.log.mkdir(parents=True, exist_ok=True)
    spawn = get_context("spawn")
    given = queue_of_numbers(spawn, workers), visible_gpus()
    with ProcessPoolExecutor(workers, spawn, initializer=_begin, initargs=given) as pool:
        try:
            for done in [pool.submit(make_genesis, work, seed) for seed in seeds]:
                done.result()
            running: dict[Future[tuple[float, str]], Cell] = {pool.submit(run_cell, work, cell): cell for cell in todo}
            for future in as_completed(running):
                yield running[future], *future.result()
        except BrokenProcessPool as error:
            raise WorkerLostError(
                f"a worker died (killed, or out of memory); run the command again and it goes on; logs: {work.log}"
            ) from error
        except BaseException:  # the user's Ctrl-C, above all: what has not begun is not begun
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _begin(numbers: Any, among: list[str]) -> None:
    """In a worker, before torch is there: one thread, one GPU, and Ctrl-C is the parent's to handle."""
    claim_gpu(numbers, among)
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def make_genesis(work: Work, seed: int) -> None:
    """Round 0 of a seed, if it is missing."""
    from adapt_infinity.session import open_session

    stream = genesis_stream(work.study, seed)
    if read_manifest(manifest_path(work.project, stream, 0)) is None:
        with _quiet(work, stream):
            asked = {**work.params, "stream": stream, "seed": seed}
            open_session(work.project, work.env, asked).run(pipeline_names=["genesis"])


def run_cell(work: Work, cell: Cell) -> tuple[float, str]:
    """The cell's rounds that are missing; seconds, and what went wrong."""
    from adapt_infinity.cli._rounds import run_rounds

    start, stream = time.perf_counter(), cell.stream(work.study)
    try:
        with _quiet(work, stream):
            begin_stream(work, cell)
            params = cell_params(work, cell)
            for round in range(1, work.last + 1):
                if round == 1:
                    share_probe(work, cell)
                run_rounds(work.project, work.env, cell.data_strategy, params, range(round, round + 1))
    except Exception as error:
        with (work.log / f"{stream}.log").open("a") as file:
            traceback.print_exc(file=file)
        return time.perf_counter() - start, f"{type(error).__name__}: {error}"
    return time.perf_counter() - start, ""


def cell_params(work: Work, cell: Cell) -> dict[str, Any]:
    """The study's parameters, the variant's over them, and what else sets a cell apart from the others."""
    from adapt_infinity.training import adapter_policy, methods

    given = strategies.merged(work.params, work.variants[cell.variant] if cell.variant else {})
    possible = getattr(methods.load(cell.method), "ADAPTER_POLICIES", adapter_policy.POLICIES)
    asked = dict(given.get("training", {})).get("adapter_policy", possible[0])
    own: dict[str, Any] = {"stream": cell.stream(work.study), "seed": cell.seed}
    own["training"] = {"method": cell.method, "adapter_policy": asked if asked in possible else possible[0]}
    if cell.budget != 1:
        budget = dict(given.get("subset", {})).get("budget", work.budget)
        own["subset"] = {"budget": round(cell.budget * budget)}
    return strategies.merged(given, own)


def begin_stream(work: Work, cell: Cell) -> None:
    """Genesis of the seed, linked into the cell's stream: hard links, so it takes no space."""
    stream = cell.stream(work.study)
    place = manifest_path(work.project, stream, 0)
    if place.exists():
        return
    shutil.rmtree(place.parent, ignore_errors=True)
    genesis = manifest_path(work.project, genesis_stream(work.study, cell.seed), 0)
    skip = shutil.ignore_patterns("manifest.json")
    shutil.copytree(genesis.parent, place.parent, copy_function=os.link, ignore=skip)
    manifest = read_manifest(genesis)
    assert manifest is not None, "genesis comes first"
    write_manifest(place, replace(manifest, stream=stream))


def share_probe(work: Work, cell: Cell) -> None:
    """What other cells of the seed have read in round 1, linked to where this cell's probe looks for rows.

    A row that is taken over is charged all the same: `shared.json` says what reading one took, by fingerprint.
    """
    stream = cell.stream(work.study)
    if read_manifest(manifest_path(work.project, stream, 1)) is not None:
        return
    mine = work.project / round_folder(stream, 1)
    seconds: dict[str, float] = {}
    for other in sorted(mine.parents[1].glob(f"{work.study}-*-seed{cell.seed}/round_1/cost.json")):
        for features in (other.parent / "features").glob("*/features"):
            record = json.loads((features / "record.json").read_text())
            if other.parent == mine or not record["rows read"]:
                continue
            place = mine / "features" / features.parent.name
            if not place.exists():
                shutil.copytree(features.parent, place, copy_function=os.link)
            seconds[_fingerprint(features)] = record["seconds"] / record["rows read"]
    if seconds:
        (mine / "shared.json").write_text(json.dumps(seconds))


def _fingerprint(features: Path) -> str:
    return str(json.loads((features / "spec.json").read_text())["fingerprint"])


def outcome(work: Work, cell: Cell) -> Outcome | None:
    """What a cell has come to, if it is complete."""
    if cell.data_strategy == ZERO_SHOT:
        genesis = _table(work, genesis_stream(work.study, cell.seed), 0, "score_matrix")
        return None if genesis is None else zero_shot(cell, genesis, work.last)
    stream = cell.stream(work.study)
    scores = _table(work, stream, work.last, "score_matrix")
    if scores is None:
        return None
    return Outcome(cell, scores, [_cost(work, stream, round) for round in range(1, work.last + 1)])


def _table(work: Work, stream: str, round: int, name: str) -> pd.DataFrame | None:
    manifest = read_manifest(manifest_path(work.project, stream, round))
    if manifest is None:
        return None
    file = f"{name}.parquet"
    return pd.read_parquet(work.project / round_folder(stream, round) / file / manifest.versions[name] / file)


def _cost(work: Work, stream: str, round: int) -> Cost:
    """Of a round, with the seconds that reading would have taken had no other cell done it."""
    folder = work.project / round_folder(stream, round)
    manifest, shared = read_manifest(folder / "manifest.json"), folder / "shared.json"
    cost = from_json(json.loads((folder / "cost.json").read_text()))
    assert manifest is not None, "the cell is complete"
    if not shared.is_file() or "features" not in manifest.versions:
        return cost
    features = folder / "features" / manifest.versions["features"] / "features"
    record = json.loads((features / "record.json").read_text())
    each = json.loads(shared.read_text()).get(_fingerprint(features), 0.0)
    return replace(cost, selection_seconds=cost.selection_seconds + each * (record["rows"] - record["rows read"]))


@contextlib.contextmanager
def _quiet(work: Work, stream: str) -> Iterator[None]:
    """In the project's folder, one thread; what is printed goes to the cell's log."""
    import torch

    torch.set_num_threads(1)
    os.chdir(work.project)
    with (
        (work.log / f"{stream}.log").open("a") as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        yield
