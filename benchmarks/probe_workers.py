"""How well does the probe spread over workers? Rows a second of several workers, by those of one.

    python benchmarks/probe_workers.py --workers 2 --rows 1536 --runs 5

The pipeline's own executor and shard function, one thread a worker, runs of one and of several in turn. The rate is
taken between the first and the last shard to end: starting a worker (importing torch, opening the model) costs seconds
that a pool of this size does not repay; the ratio with them is printed, too.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import torch
from probe_setup import prepare  # the file beside this one

from adapt_infinity import executors
from adapt_infinity.data.sample import Sample
from adapt_infinity.features.shards import keys_of
from adapt_infinity.features.worker import ProbeJob, ShardTask, probe_shard

SHARD = 128


def main() -> None:
    """Measure and print."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--workers", type=int, default=2)
    asked.add_argument("--rows", type=int, default=1536)
    asked.add_argument("--runs", type=int, default=5)
    options = asked.parse_args()
    torch.set_num_threads(1)
    steady, whole = [], []
    with tempfile.TemporaryDirectory() as folder:
        samples, job = prepare(Path(folder), options.rows)
        rates(samples, job, 1, "warm-up")
        for run in range(options.runs):
            one, several = (rates(samples, job, count, f"{run}") for count in (1, options.workers))
            steady.append(several[0] / one[0])
            whole.append(several[1] / one[1])
    print(f"torch {torch.__version__}, {len(samples)} rows in shards of {SHARD}, median of {options.runs} runs")
    print(f"{options.workers} workers / 1, once they are up   {statistics.median(steady):.2f}")
    print(f"{options.workers} workers / 1, with their start   {statistics.median(whole):.2f}")


def rates(samples: list[Sample], job: ProbeJob, workers: int, name: str) -> tuple[float, float]:
    """Shards a second: between the first and the last to end, and from the start."""
    mine = replace(job, folder=job.folder / f"{name}-{workers}", window=SHARD)
    places = range(0, len(samples), SHARD)
    tasks = [ShardTask(place, keys(place), tuple(samples[place : place + SHARD])) for place in places]
    start = time.perf_counter()
    ends = [time.perf_counter() for _ in executors.load("local")(probe_shard, mine, iter(tasks), workers)]
    return (len(ends) - 1) / (ends[-1] - ends[0]), len(ends) / (ends[-1] - start)


def keys(place: int) -> pa.Array:
    """Keys of a shard's samples; any will do."""
    return keys_of([f"{number:032x}{0:032x}" for number in range(place, place + SHARD)])


if __name__ == "__main__":
    main()
