"""Speed-up of the probe with several workers: rows per second, divided by those of one worker.

    python benchmarks/probe_workers.py --workers 2 --rows 1536 --runs 5

It uses the executor and the shard function of the pipeline, with one thread per worker; runs with one and several
workers alternate. The rate is measured from the end of the first shard to the end of the last, without the start of the
workers (importing torch, loading the model), which takes seconds. The ratio with the start is printed, too.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import torch
from probe_setup import prepare

from adapt_infinity import executors
from adapt_infinity.data.sample import Sample
from adapt_infinity.features.shards import keys_of
from adapt_infinity.features.worker import ProbeJob, ShardTask, probe_shard

SHARD = 128


def main() -> None:
    """Measure the speed-up and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rows", type=int, default=1536)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    without_start, with_start = [], []
    with tempfile.TemporaryDirectory() as folder:
        samples, job = prepare(Path(folder), options.rows)
        rates(samples, job, 1, "warm-up")
        for run in range(options.runs):
            one, several = (rates(samples, job, count, f"{run}") for count in (1, options.workers))
            without_start.append(several[0] / one[0])
            with_start.append(several[1] / one[1])
    print(f"torch {torch.__version__}, {len(samples)} rows in shards of {SHARD}, median of {options.runs} runs")
    print(f"{options.workers} workers / 1, without their start   {statistics.median(without_start):.2f}")
    print(f"{options.workers} workers / 1, with their start      {statistics.median(with_start):.2f}")


def rates(samples: list[Sample], job: ProbeJob, workers: int, name: str) -> tuple[float, float]:
    """Shards per second, without and with the start of the workers."""
    own_job = replace(job, folder=job.folder / f"{name}-{workers}", window=SHARD)
    starts = range(0, len(samples), SHARD)
    tasks = [ShardTask(first, keys(first), tuple(samples[first : first + SHARD])) for first in starts]
    start = time.perf_counter()
    ends = [time.perf_counter() for _ in executors.load("local")(probe_shard, own_job, iter(tasks), workers)]
    return (len(ends) - 1) / (ends[-1] - ends[0]), len(ends) / (ends[-1] - start)


def keys(first: int) -> pa.Array:
    """Keys for the samples of a shard; any different keys will do."""
    return keys_of([f"{number:032x}{0:032x}" for number in range(first, first + SHARD)])


if __name__ == "__main__":
    main()
