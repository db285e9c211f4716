"""If a process is killed while it writes a dataset, the newest version is the old or the new one, and complete.

Writers run in processes that are forked from one with all imports done, and are killed (SIGKILL) after a random share
of the time that a write takes. A third process then loads the newest version.
"""

import gc
import json
import os
import random
import signal
import subprocess
import sys
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

KILLS = 50
RECORDS = 1000  # per intake
ROWS = 250  # per shard


class Drill:
    """A versioned dataset under test. Its content has a number of steps, which grows by one with each version."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def prepare(self, version: str) -> Callable[[], None]:
        """Compute the content of the next version; returns the function that writes it."""

    @abstractmethod
    def check(self) -> tuple[str, int]:
        """Check that the newest version (as Kedro finds it) is complete; returns its name and number of steps."""


class Intake(Drill):
    """Arrivals that are checked and written record by record; the answers contain the number of steps."""

    def _dataset(self, version: str | None) -> Any:
        from kedro.io.core import Version

        from adapt_infinity.datasets.rows import RowsDataset

        return RowsDataset(filepath=str(self.folder / "arrivals.parquet"), version=Version(None, version))

    def prepare(self, version: str) -> Callable[[], None]:
        from adapt_infinity.data.pictures import Pictures
        from adapt_infinity.intake.reading import IntakeParams, Source, check_records

        steps = self.check()[1] + 1 if self.folder.is_dir() else 1
        records = [
            {
                "id": number,
                "conversations": [{"from": "human", "value": f"{number}?"}, {"from": "gpt", "value": str(steps)}],
            }
            for number in range(RECORDS)
        ]
        params = IntakeParams(max_text=99, max_reject_share=0, near_bits=0, on_contamination="report", workers=1)
        arrivals, _ = check_records(Source("toy", "llava", records, {}), Pictures({}, 1), params)
        return lambda: self._dataset(version).save(arrivals)

    def check(self) -> tuple[str, int]:
        from adapt_infinity.kedro_internals import load_path

        newest = self._dataset(None)
        table = newest.load().to_table()
        assert table["source_id"].to_pylist() == [str(number) for number in range(RECORDS)]
        (steps,) = {turns[1]["text"] for turns in table["turns"].to_pylist()}
        return load_path(newest).parent.name, int(steps)


class PoolDrill(Drill):
    """A pool with the arrivals of several rounds."""

    def _dataset(self, version: str | None) -> Any:
        from kedro.io.core import Version

        from adapt_infinity.datasets.pool import PoolDataset

        return PoolDataset(filepath=str(self.folder / "round_1/kept_pool.json"), version=Version(None, version))

    def _arrivals(self, number: int) -> Any:
        import pandas as pd

        from adapt_infinity.data import parquet, sample

        ids = range((number - 1) * ROWS, number * ROWS)
        turns = [[{"role": "user", "text": "?"}, {"role": "assistant", "text": str(one)}] for one in ids]
        names = [f"d{number}{one}" for one in range(ROWS)]
        table = pd.DataFrame({"sample_id": ids, "source_id": names, "turns": turns})
        rows = parquet.in_memory(table.assign(round=number, source=f"d{number}", skill="s"), sample.SAMPLE_SCHEMA)
        if number % 2:
            return rows
        file = self.folder / f"arrivals-{number}.parquet"  # a file of intake, which the pool links
        parquet.write(file, [rows.to_table()])
        return parquet.open_table(file)

    def _whole(self) -> tuple[str, Any]:
        """The newest version and its pool, after a check of all bytes and all samples."""
        from adapt_infinity.datasets.pool import faults
        from adapt_infinity.kedro_internals import load_path

        newest = self._dataset(None)
        place = load_path(newest)
        assert list(faults(self.folder / "pool", json.loads(place.read_text()))) == []
        pool = newest.load()
        rows = pool.fetch(range(pool.size), ["sample_id", "source_id", "turns"])
        assert rows["sample_id"].to_pylist() == list(range(pool.size))
        assert rows["source_id"].to_pylist() == [
            f"d{number + 1}{place}" for number in range(len(pool.shards)) for place in range(ROWS)
        ]
        assert [turns[1]["text"] for turns in rows["turns"].to_pylist()] == [str(place) for place in range(pool.size)]
        return place.parent.name, pool


class Joined(PoolDrill):
    """Pools to which arrivals are added: a step is a shard."""

    def prepare(self, version: str) -> Callable[[], None]:
        from adapt_infinity.pool.pool import Pool, join_pool

        kept = self._dataset(None).load() if self.folder.is_dir() else Pool()
        self.folder.mkdir(exist_ok=True)
        number = len(kept.shards) + 1
        pool = join_pool(kept, self._arrivals(number), number)
        return lambda: self._dataset(version).save(pool)

    def check(self) -> tuple[str, int]:
        newest, pool = self._whole()
        assert pool.present.all()
        return newest, len(pool.shards)


class Removed(PoolDrill):
    """Pools from which samples are removed: a step is a part of the ledger, with three samples."""

    def prepare(self, version: str) -> Callable[[], None]:
        import pandas as pd

        from adapt_infinity.pool.pool import Pool, join_pool, remove

        if not self.folder.is_dir():
            self.folder.mkdir()
            return lambda: self._dataset(version).save(join_pool(Pool(), self._arrivals(1), 1))
        pool = self._dataset(None).load()
        number = len(pool.ledger)
        leaving = pd.DataFrame({"sample_id": range(3 * number, 3 * number + 3), "reason": f"step {number + 1}"})
        return lambda: self._dataset(version).save(remove(pool, leaving, number + 1))

    def check(self) -> tuple[str, int]:
        newest, pool = self._whole()
        steps = len(pool.ledger)
        assert pool.present.tolist() == [place >= 3 * steps for place in range(ROWS)]
        assert pool.ledger_table["reason"].tolist() == [f"step {place // 3 + 1}" for place in range(3 * steps)]
        return newest, steps


DRILLS: dict[str, type[Drill]] = {"intake": Intake, "joined": Joined, "removed": Removed}


def exercise(drill: Drill, seed: str) -> dict[str, int]:
    """Kill KILLS writers; counts the old and the new versions found, and the temporary files left."""
    draw = random.Random(seed)
    taken = 0.0
    for number in range(4):
        status, taken = attempt(drill, f"a{number:04d}", None)
        assert status == 0
    newest, steps = checked(drill)
    assert newest == "a0003"
    found: Counter[str] = Counter()
    while found["killed"] < KILLS:
        version = f"b{found['tried']:04d}"
        found["tried"] += 1
        assert found["tried"] <= 6 * KILLS, f"most writes end before they are killed: {found}"
        status, _ = attempt(drill, version, draw.uniform(0, taken))
        assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL
        found["killed"] += os.WIFSIGNALED(status)
        found["left"] += bool(list(drill.folder.rglob("*.tmp")))
        before, (newest, steps_now) = (newest, steps), checked(drill)
        assert (newest, steps_now) in (before, (version, before[1] + 1))
        assert status != 0 or newest == version
        found["new" if newest == version else "old"] += 1
        steps = steps_now
    assert attempt(drill, "c", None)[0] == 0
    assert checked(drill) == ("c", steps + 1)
    assert list(drill.folder.rglob("*.tmp")) == [], "the next write removes the temporary files of killed writers"
    return dict(found)


def attempt(drill: Drill, version: str, delay: float | None) -> tuple[int, float]:
    """Write a version in a child process, killed after `delay` seconds of writing; returns wait status and seconds."""
    ready, begin = os.pipe()
    child = os.fork()
    if not child:
        write = drill.prepare(version)
        os.write(begin, b"!")
        write()
        os._exit(0)
    os.close(begin)
    assert os.read(ready, 1) == b"!"
    os.close(ready)
    started = time.perf_counter()
    if delay is not None:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    return status, time.perf_counter() - started


def checked(drill: Drill) -> tuple[str, int]:
    """`drill.check` in a process of its own, so that the process that forks writers has no threads."""
    source, target = os.pipe()
    child = os.fork()
    if not child:
        os.write(target, json.dumps(drill.check()).encode())
        os._exit(0)
    os.close(target)
    with os.fdopen(source) as answer:
        newest, steps = json.loads(answer.read())
    os.waitpid(child, 0)
    return newest, steps


@pytest.fixture(scope="module")
def drilled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, int]]:
    environment = {
        **os.environ,
        "TQDM_DISABLE": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-m", "tests.pipelines.test_killed", str(tmp_path_factory.mktemp("killed"))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, dict[str, int]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", DRILLS)
def test_killed_write_leaves_a_complete_version(drilled: dict[str, dict[str, int]], name: str) -> None:
    found = drilled[name]
    assert found["killed"] >= KILLS
    assert min(found["old"], found["new"]) > 0, found
    assert sum(one["left"] for one in drilled.values()) > 0  # some were killed while they wrote a file


def import_all() -> None:
    """Import what writers need before they are forked; without torch, so that the process is small and forks fast."""
    for name in ("datasets.pool", "datasets.rows", "intake.formats.llava", "intake.reading"):
        import_module(f"adapt_infinity.{name}")
    assert "torch" not in sys.modules
    gc.freeze()


if __name__ == "__main__":
    import_all()
    made = {name: exercise(drill(Path(sys.argv[1]) / name), name) for name, drill in DRILLS.items()}
    print(json.dumps(made))
