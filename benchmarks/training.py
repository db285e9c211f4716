"""Speed of training, compared with the plain `transformers.Trainer`, on the embedded model.

    python benchmarks/training.py --rows 256 --runs 5 --threads 1

- *ours*: `training/loop.py`, as in a round: logits at answer positions only, micro-batches of similar length, one
  vector of weights, samples encoded once.
- *Trainer*: transformers' Trainer with a padding collator, and the same samples, LoRA, batch size, epochs and schedule.
  Samples are encoded in every epoch, as by a dataset that wraps a processor.
- *Trainer, encoded before*: the same with samples encoded once; the loop, the padding and the logits differ from ours.
- *Trainer, encoded before, by length*: the same with batches of similar length.

Runs are interleaved, and medians are compared. Times are CPU seconds of the process, which other processes disturb less
than wall-clock times. With --long, answers are repeated at random, so that lengths differ as in real conversations.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from probe_setup import prepare, training_params
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments
from transformers.utils.logging import disable_progress_bar

from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import Sample, Turn
from adapt_infinity.features.worker import ProbeJob
from adapt_infinity.model.checkpoint import Vlm, load_vlm
from adapt_infinity.model.prompts import Encoded, collate, encode, pad_token
from adapt_infinity.pool.pool import Pool
from adapt_infinity.training.context import ReplayMemory, StepCallbacks, TrainingContext
from adapt_infinity.training.loop import train
from adapt_infinity.training.parameter_vector import collect_weights
from adapt_infinity.training.schedule import approximate_length

PACKAGES = ("torch", "transformers", "peft", "accelerate")
EPOCHS, BATCH, RATE = 3, 32, 3e-3


def main() -> None:
    """Make the samples, run all contenders, print medians and ratios."""
    disable_progress_bar()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--long", action="store_true", help="repeat answers at random")
    parser.add_argument("--output", type=Path, default=Path("data/benchmarks/training.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        samples, job = prepare(Path(folder), options.rows)
        if options.long:
            samples = lengthen(samples)
        peers: dict[str, Callable[[], int]] = {
            "ours": lambda: ours(samples, job),
            "Trainer": lambda: trainer(samples, job, Path(folder)),
            "Trainer, encoded before": lambda: trainer(samples, job, Path(folder), before=True),
            "Trainer, encoded before, by length": lambda: trainer(samples, job, Path(folder), True, grouped=True),
        }
        seconds: dict[str, list[float]] = {name: [] for name in peers}
        steps = {}
        for run in range(options.runs + 1):  # the first warms up
            for name, peer in peers.items():
                start = time.process_time()
                steps[name] = peer()
                if run:
                    seconds[name].append(time.process_time() - start)
    assert len(set(steps.values())) == 1, f"equal steps: {steps}"
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    result = {
        "rows": len(samples),
        "steps": steps["ours"],
        "threads": options.threads,
        "versions": {name: version(name) for name in PACKAGES},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "cpu_seconds": seconds,
        **{f"{name} / ours": median / medians["ours"] for name, median in medians.items() if name != "ours"},
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1))
    for name, value in result.items():
        print(f"{name:44} {value if not isinstance(value, float) else f'{value:.3g}'}")


def lengthen(samples: Sequence[Sample]) -> list[Sample]:
    """Samples with repeated answers; the number of repetitions is log-normal."""
    draw = np.random.default_rng(0)
    longer = []
    for sample in samples:
        times = int(min(30, draw.lognormal(1.0, 1.0))) + 1
        turns = [Turn(t.role, " ".join([t.text] * times) if t.role == "assistant" else t.text) for t in sample.turns]
        longer.append(replace(sample, turns=tuple(turns)))
    return longer


def ours(samples: list[Sample], job: ProbeJob) -> int:
    """Train with this project's loop; returns the number of optimizer steps."""
    vlm = load_vlm(job.base, job.model, job.adapter)
    params = training_params(epochs=EPOCHS, batch_size=BATCH, learning_rate=RATE, projector_learning_rate=RATE)
    context = TrainingContext(
        vlm, collect_weights(vlm, params.projector), samples, job.pictures, ReplayMemory(Pool(), 0), params
    )
    log, _ = train(context, StepCallbacks(), EPOCHS)
    return len(log)


class Encodings(Dataset[Encoded]):
    """Encoded samples for the Trainer; encoded at once if `before`."""

    def __init__(self, vlm: Vlm, samples: Sequence[Sample], pictures: Pictures, before: bool) -> None:
        self._read = lambda place: encode(vlm, samples[place], pictures)
        self._encoded = [self._read(place) for place in range(len(samples))] if before else None
        self._count = len(samples)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: int) -> Encoded:
        return self._read(place) if self._encoded is None else self._encoded[place]


def trainer(samples: list[Sample], job: ProbeJob, folder: Path, before: bool = False, grouped: bool = False) -> int:
    """Train with transformers' Trainer; returns the number of optimizer steps."""
    vlm = load_vlm(job.base, job.model, job.adapter)
    for name, weight in vlm.model.named_parameters():
        weight.requires_grad_("lora_" in name)
    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        per_device_train_batch_size=BATCH,
        num_train_epochs=EPOCHS,
        learning_rate=RATE,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        weight_decay=0.0,
        remove_unused_columns=False,
        use_cpu=not torch.cuda.is_available(),
        label_names=["labels"],
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        seed=0,
    )

    def collate_rows(rows: list[Encoded]) -> dict[str, torch.Tensor]:
        batch = collate(rows, pad_token(vlm))
        tensors = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "labels": batch.labels}
        return {**tensors, **batch.extras}

    data = Encodings(vlm, samples, job.pictures, before)
    if grouped:
        from transformers.trainer_pt_utils import LengthGroupedSampler

        lengths = [approximate_length(sample) for sample in samples]

        class Grouped(Trainer):
            def _get_train_sampler(self, *_: Any) -> Any:
                return LengthGroupedSampler(BATCH, lengths=lengths)

        run: Trainer = Grouped(vlm.model, arguments, data_collator=collate_rows, train_dataset=data)
    else:
        run = Trainer(vlm.model, arguments, data_collator=collate_rows, train_dataset=data)
    return int(run.train().global_step)


def version(name: str) -> str:
    """The installed version of a package, or "absent"."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


if __name__ == "__main__":
    main()
