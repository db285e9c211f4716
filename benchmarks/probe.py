"""How dear is the probe? Ratios against its peers, on the embedded model, in one process.

    pip install -e ".[bench]" && python benchmarks/probe.py --rows 256 --runs 5 --threads 2

- *probe*: as a worker of the pipeline reads a window: encoding with and without pictures, features, scores, embeddings.
- *probe in one pass*: the same with `probe.image_grounding: false`, without the pass without pictures and its encoding:
  what *vmap* is to be compared with.
- *training*: a plain LoRA forward and backward pass of the same samples (all adapter weights), without the optimiser
  step.
- *batch 1 + …*, *vmap + …*, *bergson …*: see `probe_peers`.

Runs are interleaved and medians are compared, in CPU seconds of the process a row, which a busy neighbour disturbs less
than the clock on the wall. Extra memory: see `probe_memory`. Prints the table and writes JSON.
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
os.environ.setdefault("TQDM_DISABLE", "1")  # bergson's bars

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
# name of the ratio → (dividend, divisor)
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
    """Make the samples, run the peers in turn, print medians and ratios."""
    logging.disable(logging.INFO)  # bergson lists its modules at every run
    warnings.filterwarnings("ignore", message="There is a performance drop because")  # vmap's attention
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--rows", type=int, default=256)
    asked.add_argument("--runs", type=int, default=5)
    asked.add_argument("--threads", type=int, default=2)
    asked.add_argument("--only", nargs="*", default=[], help="names of the peers that are run; all if none is given")
    asked.add_argument("--output", type=Path, default=Path("data/benchmarks/probe.json"))
    options = asked.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        samples, job = prepare(Path(folder), options.rows)
        pictures, vlm, opened = job.pictures, load_vlm(job.base, job.model, job.adapter), ProbeWorker(job)
        once = ProbeWorker(replace(job, spec=replace(SPEC, image_grounding=False)))
        peers: dict[str, Peer | str] = {
            "probe": Peer(lambda: probe(opened, samples), len(samples)),
            "probe in one pass": Peer(lambda: probe(once, samples), len(samples)),
            "training": Peer(lambda: train(vlm, samples, pictures), len(samples)),
            **image_peers(vlm, samples, pictures),
            **text_peers(job, samples, Path(folder)),
        }
        if options.only:
            peers = {name: peer if name in options.only else "not asked for" for name, peer in peers.items()}
        few = samples[:: max(1, len(samples) // 32)]
        error = errors(opened.vlm, few, pictures)
        memory = extra_memory(opened.vlm, vlm, samples, pictures)
        found = differences(vlm, job, few, Path(folder))
        seconds = interleaved(peers, options.runs)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    result = {
        "rows": len(samples),
        "threads": options.threads,
        "versions": versions(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "cpu_milliseconds_a_row": {name: [1000 * value for value in values] for name, values in seconds.items()},
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
        if name != "cpu_milliseconds_a_row":
            print(f"{name:44} {value if not isinstance(value, float) else f'{value:.3g}'}")
    for name, median in medians.items():
        print(f"{name:44} {1000 * median:.3g} CPU ms a row")


def interleaved(peers: dict[str, Peer | str], runs: int) -> dict[str, list[float]]:
    """CPU seconds a row of each peer that is there, `runs` times, after one run to warm up."""
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
    """Of two medians, or why there is none."""
    absent = [str(peers[name]) for name in (dividend, divisor) if name not in medians]
    return absent[0] if absent else medians[dividend] / medians[divisor]


def versions() -> dict[str, str]:
    """Of everything that takes part."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def probe(opened: ProbeWorker, samples: list[Sample]) -> None:
    """Tokens, features, all scores and embeddings, as a worker reads them; without the writing of the shard."""
    for window, pairs in opened.loader.windows(samples, len(samples)):
        opened.read(window, pairs)


def train(vlm: Vlm, samples: list[Sample], pictures: Pictures) -> None:
    """Forward and backward of the same samples, for all adapter weights, in length-grouped batches."""
    weights = [weight for name, weight in vlm.model.named_parameters() if "lora_" in name]
    rows = encoded(vlm, samples, pictures)
    with trainable(weights):
        for places in batches([len(row) for row in rows], TOKENS):
            logits, labels = answer_logits(vlm, collate([rows[place] for place in places], pad_token(vlm)))
            torch.autograd.grad(answer_loss(logits, labels), weights, allow_unused=True)


def errors(vlm: Vlm, samples: list[Sample], pictures: Pictures) -> list[float]:
    """Of each sample's row probed in a batch of many against the same probed alone, relative, before fp16."""
    rows = encoded(vlm, samples, pictures)
    bare = np.full(len(rows), np.nan, np.float32)
    many = read_batch(vlm, collate(rows, pad_token(vlm)), bare, SPEC).features
    alone = torch.cat([read_batch(vlm, collate([row], pad_token(vlm)), bare[:1], SPEC).features for row in rows])
    found: list[float] = ((many - alone).norm(dim=1) / alone.norm(dim=1)).tolist()
    return found


if __name__ == "__main__":
    main()
