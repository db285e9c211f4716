"""Time and memory of the probe, compared with training and with other tools, on the embedded model in one process.

    pip install -e ".[bench]" && python benchmarks/probe.py --rows 256 --runs 5 --threads 2

- *probe*: all that a worker does with a window: encoding with and without pictures, features, scores, embeddings.
- *probe in one pass*: the same with `probe.image_grounding: false`, that is, without the pass without pictures; this is
  what *vmap* does.
- *training*: forward and backward pass of the same samples for all LoRA weights, without the optimizer step.
- *batch 1 + …*, *vmap + …*, *bergson …*: see `probe_peers`.

Runs are interleaved, and medians are compared. Times are CPU seconds of the process per row, which other processes
disturb less than wall-clock times. For the extra memory, see `probe_memory`. The results are printed and written as
JSON.
"""

import argparse
import importlib.metadata
import json
import logging
import os
import platform
import statistics
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TQDM_DISABLE", "1")  # hide the progress bars of bergson

import numpy as np
import torch
from probe_memory import extra_memory
from probe_peers import Peer, differences, encoded, image_peers, text_peers
from probe_setup import SPEC, TOKENS, prepare, trainable

from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import Sample
from adapt_infinity.features.batch_reading import read_batch
from adapt_infinity.features.worker import ProbeWorker
from adapt_infinity.model.checkpoint import Vlm, answer_logits, load_vlm
from adapt_infinity.model.prompts import batches, collate, pad_token
from adapt_infinity.training.context import answer_loss

PACKAGES = ("torch", "transformers", "peft", "traker", "bergson")
# name of a ratio → (dividend, divisor)
RATIOS = {
    "probe / training": ("probe", "training"),
    "batch 1 + dense / probe": ("batch 1 + dense", "probe"),
    "batch 1 + traker a sample / probe": ("batch 1 + traker a sample", "probe"),
    "batch 1 + traker for 16 / probe": ("batch 1 + traker for 16", "probe"),
    "vmap + our sketch / probe": ("vmap + our sketch", "probe"),
    "vmap + our sketch / probe in one pass": ("vmap + our sketch", "probe in one pass"),
    "bergson two-sided / probe of text": ("bergson two-sided", "probe of text"),
    "bergson global / probe of text": ("bergson global", "probe of text"),
}


def main() -> None:
    """Make the samples, run all contenders, print medians and ratios."""
    logging.disable(logging.INFO)  # bergson lists its modules in every run
    warnings.filterwarnings("ignore", message="There is a performance drop because")  # of attention in vmap
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[], help="names of contenders; default: all")
    parser.add_argument("--output", type=Path, default=Path("data/benchmarks/probe.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        samples, job = prepare(Path(folder), options.rows)
        pictures, vlm, worker = job.pictures, load_vlm(job.base, job.model, job.adapter), ProbeWorker(job)
        one_pass_worker = ProbeWorker(replace(job, spec=replace(SPEC, image_grounding=False)))
        peers: dict[str, Peer | str] = {
            "probe": Peer(lambda: probe(worker, samples), len(samples)),
            "probe in one pass": Peer(lambda: probe(one_pass_worker, samples), len(samples)),
            "training": Peer(lambda: train(vlm, samples, pictures), len(samples)),
            **image_peers(vlm, samples, pictures),
            **text_peers(job, samples, Path(folder)),
        }
        if options.only:
            peers = {name: peer if name in options.only else "not in --only" for name, peer in peers.items()}
        few = samples[:: max(1, len(samples) // 32)]
        error = errors(worker.vlm, few, pictures)
        memory = extra_memory(worker.vlm, vlm, samples, pictures)
        found = differences(vlm, job, few, Path(folder))
        seconds = interleaved(peers, options.runs)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    result = {
        "rows": len(samples),
        "threads": options.threads,
        "versions": versions(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "cpu_milliseconds_per_row": {name: [1000 * value for value in values] for name, values in seconds.items()},
        "absent": {name: peer for name, peer in peers.items() if isinstance(peer, str)},
        **{name: ratio(medians, peers, *pair) for name, pair in RATIOS.items()},
        "relative error against batch 1, largest": max(error),
        "relative error against batch 1, median": statistics.median(error),
        **found,
        **memory,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1))
    for name, value in result.items():
        if name != "cpu_milliseconds_per_row":
            print(f"{name:44} {value if not isinstance(value, float) else f'{value:.3g}'}")
    for name, median in medians.items():
        print(f"{name:44} {1000 * median:.3g} CPU ms per row")


def interleaved(peers: dict[str, Peer | str], runs: int) -> dict[str, list[float]]:
    """CPU seconds per row of each installed contender, `runs` times, after one run as warm-up."""
    there = {name: peer for name, peer in peers.items() if isinstance(peer, Peer)}
    seconds: dict[str, list[float]] = {name: [] for name in there}
    for run in range(runs + 1):
        for name, peer in there.items():
            before = time.process_time()
            peer.run()
            if run:
                seconds[name].append((time.process_time() - before) / peer.rows)
    return seconds


def ratio(medians: dict[str, float], peers: dict[str, Peer | str], dividend: str, divisor: str) -> float | str:
    """The ratio of two medians, or the reason why it is missing."""
    absent = [str(peers[name]) for name in (dividend, divisor) if name not in medians]
    return absent[0] if absent else medians[dividend] / medians[divisor]


def versions() -> dict[str, str]:
    """The versions of all packages that are compared."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def probe(worker: ProbeWorker, samples: list[Sample]) -> None:
    """Run the probe as a worker does (encoding, features, scores, embeddings), without writing the shard."""
    for window, pairs in worker.loader.windows(samples, len(samples)):
        worker.read(window, pairs)


def train(vlm: Vlm, samples: list[Sample], pictures: Pictures) -> None:
    """Forward and backward pass of the same samples for all adapter weights, in batches of similar length."""
    weights = [weight for name, weight in vlm.model.named_parameters() if "lora_" in name]
    rows = encoded(vlm, samples, pictures)
    with trainable(weights):
        for places in batches([len(row) for row in rows], TOKENS):
            logits, labels = answer_logits(vlm, collate([rows[place] for place in places], pad_token(vlm)))
            torch.autograd.grad(answer_loss(logits, labels), weights, allow_unused=True)


def errors(vlm: Vlm, samples: list[Sample], pictures: Pictures) -> list[float]:
    """The relative difference of each sample's features in a batch and alone, before rounding to half precision."""
    rows = encoded(vlm, samples, pictures)
    bare = np.full(len(rows), np.nan, np.float32)
    many = read_batch(vlm, collate(rows, pad_token(vlm)), bare, SPEC).features
    alone = torch.cat([read_batch(vlm, collate([row], pad_token(vlm)), bare[:1], SPEC).features for row in rows])
    found: list[float] = ((many - alone).norm(dim=1) / alone.norm(dim=1)).tolist()
    return found


if __name__ == "__main__":
    main()
