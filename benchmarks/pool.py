"""Speed and memory of intake and pool, compared with pandas snapshots and Hugging Face `datasets`, on synthetic text.

    pip install datasets && python benchmarks/pool.py --rows 2000000 --runs 5

The tasks, each in its own process, interleaved; the results are medians of seconds and maxima of memory:

    read     convert a file of JSON lines to the format on disk; ours also checks every record
    overlaps find duplicates among the arrivals and with test items (ours only)
    view     load ids, rounds, sources and skills of all rows
    append   remove a tenth of the rows; ours appends to the ledger, the others write the remaining rows
    take     load 25,000 random rows with all columns

The others check nothing. Memory is that of the process, including imports. The tasks read and overlaps take long and
are run `--reads` times.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow

TAKEN = 25_000
CONTENDERS = ("ours", "pandas", "datasets")
TASKS = ("read", "overlaps", "view", "append", "take")
SKILLS = 20


def main() -> None:
    """Write the file, run every task of every contender in its own process, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--reads", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "adapt_infinity_pool")
    parser.add_argument("--child", nargs=2, metavar=("CONTENDER", "TASK"))
    options = parser.parse_args()
    if options.child:
        contender, task = options.child
        child(contender, task, options.folder, options.rows)
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    write_lines(options.folder / "rows.jsonl", options.rows)
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for task in TASKS:
        for _ in range(options.reads if task in ("read", "overlaps") else options.runs):
            for contender in CONTENDERS if task != "overlaps" else CONTENDERS[:1]:
                found.setdefault((task, contender), []).append(measured(contender, task, options))
    print(f"python {platform.python_version()}, pyarrow {pyarrow.__version__}, pandas {pd.__version__}", end="")
    print(f", {options.rows:,} rows, {os.cpu_count()} cores\n")
    print(table(found, options.rows))
    shutil.rmtree(options.folder)


def write_lines(path: Path, rows: int) -> None:
    """Write conversations of one turn with about 450 characters each, one per line."""
    draw = np.random.default_rng(0)
    words = [f"{a}{b}" for a in ("ba", "ko", "mi", "ru", "se") for b in ("lan", "ter", "dom", "vik", "sor", "na")]
    texts = [" ".join(words[n] for n in draw.integers(0, len(words), 36)) for _ in range(4096)]
    with path.open("w") as file:
        for row in range(rows):
            question, answer = texts[row % 4096], texts[(row * 31 + row // 4096) % 4096]
            turns = [{"from": "human", "value": f"{row}: {question}?"}, {"from": "gpt", "value": answer}]
            record = {"id": f"row-{row}", "task": f"skill{row % SKILLS}", "conversations": turns}
            file.write(json.dumps(record) + "\n")


def measured(contender: str, task: str, options: argparse.Namespace) -> dict[str, float]:
    """Seconds and GiB of one task in its own process."""
    command = [sys.executable, __file__, "--child", contender, task]
    command += ["--folder", str(options.folder), "--rows", str(options.rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{contender} {task}: {done.stderr[-2000:]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def child(contender: str, task: str, folder: Path, rows: int) -> None:
    """Run a task once; the time starts after all imports."""
    work = {"ours": ours, "pandas": with_pandas, "datasets": with_datasets}[contender](folder, rows)
    start = time.perf_counter()
    work[task]()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": seconds, "gigabytes": peak}))


Work = dict[str, Callable[[], Any]]


def rows_to_remove(rows: int) -> np.ndarray:
    """The rows that the task append removes."""
    return np.arange(0, rows, 10)


def rows_to_take(rows: int) -> np.ndarray:
    """The rows that the task take loads."""
    return np.sort(np.random.default_rng(1).choice(rows, min(TAKEN, rows), replace=False))


def ours(folder: Path, rows: int) -> Work:
    """The intake and the pool of adapt-infinity."""
    from kedro.io.core import Version, generate_timestamp

    from adapt_infinity.data import parquet
    from adapt_infinity.data.pictures import Pictures
    from adapt_infinity.datasets import PoolDataset, RowsDataset
    from adapt_infinity.intake.overlap import find_overlaps
    from adapt_infinity.intake.reading import IntakeParams, Source, check_records
    from adapt_infinity.intake.records import Records
    from adapt_infinity.pool.pool import Pool, join_pool, remove

    params = IntakeParams(max_text=100_000, max_reject_share=0.5, near_bits=10, on_contamination="report", workers=2)

    def pool(name: str, load: str | None, save: str | None) -> PoolDataset:
        return PoolDataset(filepath=str(folder / f"runs/round_1/{name}.json"), version=Version(load, save))

    def read() -> None:
        shutil.rmtree(folder / "runs", ignore_errors=True)
        source = Source("lines", "llava", Records(folder / "rows.jsonl"), {})
        arrivals, rejects = check_records(source, Pictures({}, 1), params, round=1)
        entry = RowsDataset(filepath=str(folder / "runs/round_1/arrivals.parquet"), version=Version(None, "first"))
        entry.save(arrivals)
        assert sum(len(block) for block in rejects) == 0
        path = folder / "runs/round_1/arrivals.parquet/first/arrivals.parquet"
        pool("pool", None, "first").save(join_pool(Pool(), parquet.open_table(path), 1))

    def overlaps() -> None:
        (arrivals,) = pool("pool", "first", None).load().shards
        items = parquet.head(arrivals.rows, 100).to_pandas()
        found = find_overlaps(arrivals.rows, Pool(), items, params.near_bits)
        assert (found["scope"] == "benchmark").sum() == len(items)

    def append() -> None:
        removals = pd.DataFrame({"sample_id": rows_to_remove(rows), "cluster": 3, "duplicate_of": 5, "similarity": 0.9})
        kept = remove(pool("pool", "first", None).load(), removals.assign(reason="redundant (greedy)"), 1)
        pool("kept_pool", None, generate_timestamp()).save(kept)

    return {
        "read": read,
        "overlaps": overlaps,
        "view": lambda: pool("pool", "first", None).load().index,
        "append": append,
        "take": lambda: pool("pool", "first", None).load().rows(rows_to_take(rows)),
    }


def with_pandas(folder: Path, rows: int) -> Work:
    """Pandas: the whole table in memory, and a snapshot on disk."""
    snapshot = folder / "snapshot.parquet"

    def read() -> None:
        with (folder / "rows.jsonl").open() as file:
            table = pd.DataFrame([json.loads(line) for line in file])
        table.insert(0, "sample_id", np.arange(len(table)))
        table.assign(source="lines", round=1).to_parquet(snapshot)

    def append() -> None:
        table = pd.read_parquet(snapshot)
        table[~table["sample_id"].isin(rows_to_remove(rows))].to_parquet(folder / "kept.parquet")

    return {
        "read": read,
        "view": lambda: pd.read_parquet(snapshot, columns=["sample_id", "round", "source", "task"]),
        "append": append,
        "take": lambda: pd.read_parquet(snapshot).iloc[rows_to_take(rows)],
    }


def with_datasets(folder: Path, rows: int) -> Work:
    """Hugging Face datasets: memory-mapped Arrow files."""
    import datasets

    datasets.disable_progress_bars()
    saved = str(folder / "hugging_face")

    def read() -> None:
        table = datasets.load_dataset(
            "json", data_files=str(folder / "rows.jsonl"), split="train", cache_dir=str(folder / "cache")
        )
        table = table.add_column("sample_id", np.arange(len(table)))
        table.save_to_disk(saved)
        shutil.rmtree(folder / "cache")

    def append() -> None:
        stay = np.setdiff1d(np.arange(rows), rows_to_remove(rows))
        datasets.load_from_disk(saved).select(stay).save_to_disk(saved + "-kept")
        shutil.rmtree(saved + "-kept")

    return {
        "read": read,
        "view": lambda: datasets.load_from_disk(saved).select_columns(["sample_id", "task"]).to_pandas(),
        "append": append,
        "take": lambda: datasets.load_from_disk(saved)[rows_to_take(rows)],
    }


def table(found: dict[tuple[str, str], list[dict[str, float]]], rows: int) -> str:
    """A Markdown table with the medians, and the times of the others as multiples of ours."""
    lines = ["| | ours | pandas ÷ ours | datasets ÷ ours | memory, ours | pandas | datasets |", "|---|" + "---:|" * 6]
    for task in TASKS:
        runs = [found.get((task, name), []) for name in CONTENDERS]
        seconds = [float(np.median([run["seconds"] for run in own])) if own else None for own in runs]
        assert seconds[0] is not None
        rate = f" ({rows / seconds[0]:,.0f} rows/s)" if task == "read" else ""
        ratios = " | ".join("" if other is None else f"{other / seconds[0]:.2f}" for other in seconds[1:])
        sizes = " | ".join(f"{max(run['gigabytes'] for run in own):.2f} GB" if own else "" for own in runs)
        lines.append(f"| {task} | {seconds[0]:.2f} s{rate} | {ratios} | {sizes} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
