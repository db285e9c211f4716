"""A process may be killed at any moment: the newest version is then the one before or the new one, and whole.

Writers run in processes of their own, forked off one that has everything imported, and are killed (SIGKILL) after a
random share of the time that a whole write takes. What they leave is looked at from a third process.
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
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.slow

KILLS = 50
RECORDS = 1000  # of an intake
ROWS = 250  # of a shard


class Drill:
    """Something that is written in versions. What version follows on what is there is always the same."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def prepare(self, version: str) -> Callable[[], None]:
        """Everything up to the write, and the write, of the version after the newest."""

    @abstractmethod
    def look(self) -> tuple[str, int]:
        """The newest version as Kedro takes it, and its number of steps, once it has been found to be whole."""


class Intake(Drill):
    """Records read, checked and written as they arrive; the steps are in the words."""

    def _dataset(self, version: str | None) -> Any:
        from kedro.io.core import Version

        from adapt_infinity.datasets.rows import RowsDataset

        return RowsDataset(filepath=str(self.folder / "arrivals.parquet"), version=Version(None, version))

    def prepare(self, version: str) -> Callable[[], None]:
        from adapt_infinity.data.pictures import Pictures
        from adapt_infinity.intake.reading import IntakeParams, Source, check_records

        steps = self.look()[1] + 1 if self.folder.is_dir() else 1
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

    def look(self) -> tuple[str, int]:
        from adapt_infinity.kedro_internals import load_path

        newest = self._dataset(None)
        table = newest.load().to_table()
        assert table["source_id"].to_pylist() == [str(number) for number in range(RECORDS)]
        (steps,) = {turns[1]["text"] for turns in table["turns"].to_pylist()}
        return load_path(newest).parent.name, int(steps)


class PoolDrill(Drill):
    """A pool that grows with each version."""

    def _dataset(self, version: str | None) -> Any:
        from kedro.io.core import Version

        from adapt_infinity.datasets.pool import PoolDataset

        return PoolDataset(filepath=str(self.folder / "round_1/kept_pool.json"), version=Version(None, version))

    def _arrivals(self, number: int) -> Any:
        import pandas as pd

        from adapt_infinity.data import parquet, sample

        ids = range((number - 1) * ROWS, number * ROWS)
        said = [[{"role": "user", "text": "?"}, {"role": "assistant", "text": str(one)}] for one in ids]
        table = pd.DataFrame({"sample_id": ids, "source_id": [f"d{number}{one}" for one in range(ROWS)], "turns": said})
        rows = parquet.in_memory(table.assign(round=number, source=f"d{number}", skill="s"), sample.SAMPLE_SCHEMA)
        if number % 2:
            return rows
        file = self.folder / f"arrivals-{number}.parquet"  # as intake has written it: it gets a second name
        parquet.write(file, [rows.to_table()])
        return parquet.open_table(file)

    def _whole(self) -> tuple[str, Any]:
        """The newest version and its pool, each byte of which is checked, and each sample."""
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
    """After arrivals have joined: a step is a shard."""

    def prepare(self, version: str) -> Callable[[], None]:
        from adapt_infinity.pool.pool import Pool, join_pool

        kept = self._dataset(None).load() if self.folder.is_dir() else Pool()
        self.folder.mkdir(exist_ok=True)
        number = len(kept.shards) + 1
        pool = join_pool(kept, self._arrivals(number), number)
        return lambda: self._dataset(version).save(pool)

    def look(self) -> tuple[str, int]:
        newest, pool = self._whole()
        assert pool.present.all()
        return newest, len(pool.shards)


class Removed(PoolDrill):
    """After samples have left: a step is a part of the ledger, of three samples."""

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

    def look(self) -> tuple[str, int]:
        newest, pool = self._whole()
        steps = len(pool.ledger)
        assert pool.present.tolist() == [place >= 3 * steps for place in range(ROWS)]
        assert pool.ledger_table["reason"].tolist() == [f"step {place // 3 + 1}" for place in range(3 * steps)]
        return newest, steps


DRILLS: dict[str, type[Drill]] = {"intake": Intake, "joined": Joined, "removed": Removed}


def exercise(drill: Drill, seed: str) -> dict[str, int]:
    """Kill writers at KILLS moments, and count what was found: the old version, the new one, something left over."""
    draw = random.Random(seed)
    taken = 0.0
    for number in range(4):
        status, taken = attempt(drill, f"a{number:04d}", None)
        assert status == 0
    newest, steps = looked(drill)
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
        before, (newest, steps_now) = (newest, steps), looked(drill)
        assert (newest, steps_now) in (before, (version, before[1] + 1))
        assert status != 0 or newest == version
        found["new" if newest == version else "old"] += 1
        steps = steps_now
    assert attempt(drill, "c", None)[0] == 0
    assert looked(drill) == ("c", steps + 1)
    assert list(drill.folder.rglob("*.tmp")) == [], "the next write clears away what killed ones left"
    return dict(found)


def attempt(drill: Drill, version: str, delay: float | None) -> tuple[int, float]:
    """Write a version in a child, killed `delay` seconds into the write; its wait status, and how long it wrote."""
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


def looked(drill: Drill) -> tuple[str, int]:
    """What `look` finds in a process of its own: the one that forks writers stays free of threads."""
    source, target = os.pipe()
    child = os.fork()
    if not child:
        os.write(target, json.dumps(drill.look()).encode())
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
def test_a_killed_write_leaves_the_old_version_or_the_whole_new_one(
    drilled: dict[str, dict[str, int]], name: str
) -> None:
    found = drilled[name]
    assert found["killed"] >= KILLS
    assert min(found["old"], found["new"]) > 0, found
    assert sum(one["left"] for one in drilled.values()) > 0  # some died in the middle of a file


def import_little() -> None:
    """The datasets without the head of their package, which imports torch: a small process forks fast."""
    package = ModuleType("adapt_infinity.datasets")
    package.__path__ = [str(Path(__file__).parents[2] / "src/adapt_infinity/datasets")]
    sys.modules[package.__name__] = package
    for name in ("datasets.pool", "datasets.rows", "intake.formats.llava", "intake.reading"):
        import_module(f"adapt_infinity.{name}")
    assert "torch" not in sys.modules
    gc.freeze()


if __name__ == "__main__":
    import_little()
    made = {name: exercise(drill(Path(sys.argv[1]) / name), name) for name, drill in DRILLS.items()}
    print(json.dumps(made))
