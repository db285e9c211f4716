"""Running the cells of a study in parallel. A stopped study can be run again and continues.

A cell is one strategy with one method and one seed, and a stream of its own. Each worker process has one thread and, if
there are GPUs, one GPU. Round 0 of a seed is computed once and linked into all cells of this seed. The features that
one cell's probe has computed in round 1 are linked into the other cells, where the probe finds them by fingerprint.
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
    """A worker process has died, and the process pool cannot go on."""


@dataclass(frozen=True)
class StudySettings:
    """What all cells of a study have in common; it is sent to the workers."""

    project: Path
    env: str | None
    study: str
    last: int
    params: Mapping[str, Any]  # as given by `--params`
    variants: Mapping[str, Mapping[str, Any]]  # name of a variant → its further parameters
    budget: int  # samples per round, before a cell multiplies it
    log: Path  # folder of the cells' logs


def run_cells(settings: StudySettings, cells: Sequence[Cell], workers: int) -> Iterator[tuple[Cell, float, str]]:
    """Run the rounds that are missing. Yields each cell when it ends, with its seconds and an error message or "".

    WorkerLostError if a worker process dies.
    """
    seeds = list(dict.fromkeys(cell.seed for cell in cells))
    todo = [cell for cell in cells if cell.data_strategy != ZERO_SHOT]
    settings.log.mkdir(parents=True, exist_ok=True)
    spawn = get_context("spawn")
    given = queue_of_numbers(spawn, workers), visible_gpus()
    with ProcessPoolExecutor(workers, spawn, initializer=_start_worker, initargs=given) as pool:
        try:
            for done in [pool.submit(make_genesis, settings, seed) for seed in seeds]:
                done.result()
            running: dict[Future[tuple[float, str]], Cell] = {
                pool.submit(run_cell, settings, cell): cell for cell in todo
            }
            for future in as_completed(running):
                yield running[future], *future.result()
        except BrokenProcessPool as error:
            raise WorkerLostError(
                f"a worker process died (killed, or out of memory); run the command again to continue; logs are in "
                f"{settings.log}"
            ) from error
        except BaseException:  # such as Ctrl-C: start no further cell
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _start_worker(numbers: Any, among: list[str]) -> None:
    """Prepare a worker process, before it imports torch: one thread, one GPU, and default handling of Ctrl-C."""
    claim_gpu(numbers, among)
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def make_genesis(settings: StudySettings, seed: int) -> None:
    """Run round 0 of a seed, if it is missing."""
    from adapt_infinity.session import open_session

    stream = genesis_stream(settings.study, seed)
    if read_manifest(manifest_path(settings.project, stream, 0)) is None:
        with _logged(settings, stream):
            params = {**settings.params, "stream": stream, "seed": seed}
            open_session(settings.project, settings.env, params).run(pipeline_names=["genesis"])


def run_cell(settings: StudySettings, cell: Cell) -> tuple[float, str]:
    """Run the rounds of a cell that are missing; returns the seconds taken and an error message or ""."""
    from adapt_infinity.cli._rounds import run_rounds

    start, stream = time.perf_counter(), cell.stream(settings.study)
    try:
        with _logged(settings, stream):
            link_genesis(settings, cell)
            params = cell_params(settings, cell)
            for round in range(1, settings.last + 1):
                if round == 1:
                    link_features(settings, cell)
                run_rounds(settings.project, settings.env, cell.data_strategy, params, range(round, round + 1))
    except Exception as error:
        with (settings.log / f"{stream}.log").open("a") as file:
            traceback.print_exc(file=file)
        return time.perf_counter() - start, f"{type(error).__name__}: {error}"
    return time.perf_counter() - start, ""


def cell_params(settings: StudySettings, cell: Cell) -> dict[str, Any]:
    """The parameters of a cell: the study's, overridden by the variant's, then by stream, seed, method, budget."""
    from adapt_infinity.training import adapter_policy, methods

    given = strategies.merged(settings.params, settings.variants[cell.variant] if cell.variant else {})
    possible = getattr(methods.load(cell.method), "ADAPTER_POLICIES", adapter_policy.POLICIES)
    policy = dict(given.get("training", {})).get("adapter_policy", possible[0])
    own: dict[str, Any] = {"stream": cell.stream(settings.study), "seed": cell.seed}
    own["training"] = {"method": cell.method, "adapter_policy": policy if policy in possible else possible[0]}
    if cell.budget != 1:
        budget = dict(given.get("subset", {})).get("budget", settings.budget)
        own["subset"] = {"budget": round(cell.budget * budget)}
    return strategies.merged(given, own)


def link_genesis(settings: StudySettings, cell: Cell) -> None:
    """Put round 0 of the cell's seed into the cell's stream, as hard links, which take no space."""
    stream = cell.stream(settings.study)
    path = manifest_path(settings.project, stream, 0)
    if path.exists():
        return
    shutil.rmtree(path.parent, ignore_errors=True)
    genesis = manifest_path(settings.project, genesis_stream(settings.study, cell.seed), 0)
    skip = shutil.ignore_patterns("manifest.json")
    shutil.copytree(genesis.parent, path.parent, copy_function=os.link, ignore=skip)
    manifest = read_manifest(genesis)
    assert manifest is not None, "round 0 of the seed is complete before its cells start"
    write_manifest(path, replace(manifest, stream=stream))


def link_features(settings: StudySettings, cell: Cell) -> None:
    """Link the features that other cells of the seed computed in round 1 to where this cell's probe looks for them.

    Reused rows count as costs all the same: `shared.json` has the seconds per row, by fingerprint of the features.
    """
    stream = cell.stream(settings.study)
    if read_manifest(manifest_path(settings.project, stream, 1)) is not None:
        return
    own_folder = settings.project / round_folder(stream, 1)
    seconds: dict[str, float] = {}
    for other in sorted(own_folder.parents[1].glob(f"{settings.study}-*-seed{cell.seed}/round_1/cost.json")):
        for features in (other.parent / "features").glob("*/features"):
            record = json.loads((features / "record.json").read_text())
            if other.parent == own_folder or not record["rows read"]:
                continue
            copy = own_folder / "features" / features.parent.name
            if not copy.exists():
                shutil.copytree(features.parent, copy, copy_function=os.link)
            seconds[_fingerprint(features)] = record["seconds"] / record["rows read"]
    if seconds:
        (own_folder / "shared.json").write_text(json.dumps(seconds))


def _fingerprint(features: Path) -> str:
    return str(json.loads((features / "spec.json").read_text())["fingerprint"])


def load_outcome(settings: StudySettings, cell: Cell) -> Outcome | None:
    """Scores and costs of a cell, or None if it is not complete."""
    if cell.data_strategy == ZERO_SHOT:
        genesis = _table(settings, genesis_stream(settings.study, cell.seed), 0, "score_matrix")
        return None if genesis is None else zero_shot(cell, genesis, settings.last)
    stream = cell.stream(settings.study)
    scores = _table(settings, stream, settings.last, "score_matrix")
    if scores is None:
        return None
    return Outcome(cell, scores, [_cost(settings, stream, round) for round in range(1, settings.last + 1)])


def _table(settings: StudySettings, stream: str, round: int, name: str) -> pd.DataFrame | None:
    manifest = read_manifest(manifest_path(settings.project, stream, round))
    if manifest is None:
        return None
    file = f"{name}.parquet"
    return pd.read_parquet(settings.project / round_folder(stream, round) / file / manifest.versions[name] / file)


def _cost(settings: StudySettings, stream: str, round: int) -> Cost:
    """The costs of a round, with the seconds for the rows that were reused from other cells."""
    folder = settings.project / round_folder(stream, round)
    manifest, shared = read_manifest(folder / "manifest.json"), folder / "shared.json"
    cost = from_json(json.loads((folder / "cost.json").read_text()))
    assert manifest is not None, "the cell is complete"
    if not shared.is_file() or "features" not in manifest.versions:
        return cost
    features = folder / "features" / manifest.versions["features"] / "features"
    record = json.loads((features / "record.json").read_text())
    seconds = json.loads(shared.read_text()).get(_fingerprint(features), 0.0)  # per row
    return replace(cost, selection_seconds=cost.selection_seconds + seconds * (record["rows"] - record["rows read"]))


@contextlib.contextmanager
def _logged(settings: StudySettings, stream: str) -> Iterator[None]:
    """StudySettings in the project's folder with one torch thread, and write all output to the stream's log."""
    import torch

    torch.set_num_threads(1)
    os.chdir(settings.project)
    with (
        (settings.log / f"{stream}.log").open("a") as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        yield
