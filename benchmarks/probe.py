"""How dear is the probe? Ratios against its peers, on the embedded model, in one process.

    python benchmarks/probe.py --rows 256 --runs 5 --threads 2

- *probe*: as a worker of the pipeline reads a window: encoding with and without pictures, features, scores, embeddings.
- *training*: a plain LoRA forward and backward pass of the same samples (all adapter weights), without the optimiser
  step.
- *batch 1 + dense*: one sample per ordinary backward pass, the layer's LoRA gradient then multiplied with a cached
  dense Rademacher matrix of the same width, which is how the public pipelines probe.

Runs are interleaved and medians are compared, in CPU seconds of the process, which a busy neighbour disturbs less than
the clock on the wall. Prints the table and writes JSON.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pandas as pd
import torch
import transformers

from adapt_infinity import experts, parquet
from adapt_infinity.embedded.stream import ARRIVALS, EmbeddedStreamParams, write_stream
from adapt_infinity.intake import IntakeParams, Source, check_records, whole
from adapt_infinity.model import Checkpoint, ModelParams, Vlm, answer_logits, load_vlm
from adapt_infinity.pictures import Pictures
from adapt_infinity.probe.capture import probed_weights
from adapt_infinity.probe.reader import Job, Opened
from adapt_infinity.probe.reading import read_batch
from adapt_infinity.probe.spec import Spec
from adapt_infinity.prompts import batches, collate, encode, pad_token
from adapt_infinity.sample import ROWS, Sample, samples_of
from adapt_infinity.training.finetune import TrainingParams, WarmUpParams, warm_up_adapter

PROJECT = Path(__file__).parents[1]
TARGETS = (
    r".*(language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    r"|multi_modal_projector\.linear_[12])"
)
LAYER, EMBEDDING_LAYER, DIM, TOKENS = 2, 3, 1024, 4096
SPEC = Spec(
    feature="gradient",
    layers=(LAYER,),
    embedding_layer=EMBEDDING_LAYER,
    dim=DIM,
    gradient="sgd",
    sketch="segments",
)


def main() -> None:
    """Make the samples, run the peers in turn, print medians and ratios."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--rows", type=int, default=256)
    asked.add_argument("--runs", type=int, default=5)
    asked.add_argument("--threads", type=int, default=2)
    asked.add_argument("--output", type=Path, default=Path("data/benchmarks/probe.json"))
    options = asked.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        samples, job = prepare(Path(folder), options.rows)
        pictures, vlm, opened = job.pictures, load_vlm(job.base, job.model, job.adapter), Opened(job)
        peers: dict[str, Callable[[], object]] = {
            "probe": lambda: probe(opened, samples),
            "training": lambda: train(vlm, samples, pictures),
            "batch 1 + dense": lambda: one_by_one(vlm, samples, pictures),
        }
        error = largest_error(opened.vlm, samples, pictures)
        seconds: dict[str, list[float]] = {name: [] for name in peers}
        for run in range(options.runs + 1):
            for name, peer in peers.items():
                before = time.process_time()
                peer()
                if run:  # the first of each warms up
                    seconds[name].append(time.process_time() - before)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    result = {
        "rows": len(samples),
        "threads": options.threads,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "cpu_seconds": seconds,
        "probe / training": medians["probe"] / medians["training"],
        "batch 1 + dense / probe": medians["batch 1 + dense"] / medians["probe"],
        "largest relative error against batch 1": error,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1))
    for name, value in result.items():
        print(f"{name:40} {value if not isinstance(value, float) else f'{value:.3g}'}")


def prepare(folder: Path, rows: int) -> tuple[list[Sample], Job]:
    """Samples of all arrivals in equal parts, and the embedded model with a warmed-up adapter."""
    write_stream(folder, EmbeddedStreamParams(train_size=rows // len(ARRIVALS) + 1, design_size=1, test_size=1))
    pictures = Pictures(dict.fromkeys(ARRIVALS, folder), 10**6)
    checked = []
    for name in ARRIVALS:
        records = json.loads((folder / name / "train.json").read_text(encoding="utf-8"))
        intake = IntakeParams(max_text=10_000, max_reject_share=0.0, near_bits=10, on_contamination="report", workers=2)
        arrivals, _ = check_records(Source(name, "llava", records, {}), pictures, intake)
        checked.append(whole(arrivals))
    checkpoint = Checkpoint(PROJECT / "src/adapt_infinity/embedded/checkpoint")
    model = ModelParams(
        device="cpu", dtype="float32", max_tokens=512, adapter_rank=16, adapter_alpha=32, adapter_targets=TARGETS
    )
    training = TrainingParams(
        learning_rate=3e-3,
        projector="multi_modal_projector",
        projector_learning_rate=3e-3,
        epochs=1,
        batch_size=32,
        token_budget=TOKENS,
        warm_up=0.05,
        weight_decay=0.0,
        max_norm=1.0,
        cache_mb=0,
        seed=0,
    )
    adapter, _ = warm_up_adapter(
        parquet.in_memory(checked[0], ROWS), pictures, checkpoint, model, training, WarmUpParams(samples=32, epochs=1)
    )
    pool = pd.concat(checked, ignore_index=True).head(rows)
    samples = samples_of(pool.assign(sample_id=range(len(pool))))
    return samples, Job(
        base=checkpoint,
        adapter=adapter,
        model=model,
        pictures=pictures,
        spec=SPEC,
        fingerprint="benchmark",
        folder=folder / "shards",
        token_budget=TOKENS,
        memory_mb=0,
        window=rows,
        loaders=0,
        image_cache_mb=0,
    )


def probe(opened: Opened, samples: list[Sample]) -> None:
    """Tokens, features, all scores and embeddings, as a worker reads them; without the writing of the shard."""
    for window, pairs in opened.loader.windows(samples, len(samples)):
        opened.read(window, pairs)


def train(vlm: Vlm, samples: list[Sample], pictures: Pictures) -> None:
    """Forward and backward of the same samples, for all adapter weights, in length-grouped batches."""
    weights = [weight for name, weight in vlm.model.named_parameters() if "lora_" in name]
    for weight in weights:
        weight.requires_grad_(True)
    rows = [encode(vlm, sample, pictures) for sample in samples]
    for places in batches([len(row) for row in rows], TOKENS):
        logits, labels = answer_logits(vlm, collate([rows[place] for place in places], pad_token(vlm)))
        torch.autograd.grad(experts.answer_nll(logits, labels).mean(), weights, allow_unused=True)
    for weight in weights:
        weight.requires_grad_(False)


def one_by_one(vlm: Vlm, samples: list[Sample], pictures: Pictures) -> torch.Tensor:
    """The layer's LoRA gradient of each sample, by autograd, times a dense matrix made once."""
    weights = [weight.requires_grad_(True) for weight in probed_weights(vlm, (LAYER,)).values()]
    size = sum(weight.numel() for weight in weights)
    draw = torch.Generator().manual_seed(0)
    dense = torch.randint(0, 2, (size, DIM), generator=draw, dtype=torch.int8).float().mul_(2).sub_(1)
    features = []
    for sample in samples:
        logits, labels = answer_logits(vlm, collate([encode(vlm, sample, pictures)], pad_token(vlm)))
        found = torch.autograd.grad(experts.answer_nll(logits, labels).sum(), weights)
        features.append(torch.cat([gradient.flatten() for gradient in found]) @ dense)
    for weight in weights:
        weight.requires_grad_(False)
    return torch.stack(features)


def largest_error(vlm: Vlm, samples: list[Sample], pictures: Pictures) -> float:
    """Of a sample's row probed in a batch of many against the same probed alone, relative, before rounding to fp16."""
    rows = [encode(vlm, sample, pictures) for sample in samples[:32]]
    bare = np.full(len(rows), np.nan, np.float32)
    many = read_batch(vlm, collate(rows, pad_token(vlm)), bare, SPEC).features
    alone = torch.cat([read_batch(vlm, collate([row], pad_token(vlm)), bare[:1], SPEC).features for row in rows])
    return float(((many - alone).norm(dim=1) / alone.norm(dim=1)).max())


if __name__ == "__main__":
    main()
