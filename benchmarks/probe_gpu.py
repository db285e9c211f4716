"""Time and memory of the probe on a model of real size, compared with training and other tools, on a GPU or the CPU.

    python benchmarks/probe_gpu.py --shape llava-1.5-7b --rows 512 --runs 5     # a GPU with 40 GB or more
    python benchmarks/probe_gpu.py --shape tiny --rows 64 --device cpu          # to try the script

Nothing is downloaded: the model has the shape of a real checkpoint and random weights, in bfloat16 on a GPU. Rows are
random, too: the tokens of a picture, then 20 to 120 tokens of question and 10 to 200 of answer. Times include waiting
for the device; runs are interleaved, and medians are compared.

- *probe*: features, all scores, embeddings, and the pass without pictures. Encoding is not included, because other
  processes do it.
- *training*: forward and backward of the same rows for all adapter weights, in the same batches, without the step.
- *batch 1 + dense*: one backward pass per row, multiplied with a dense matrix with `--dense` columns that is made once;
  a matrix with 8192 columns has 80 GB for a layer of a 7B model with rank 128.
- *batch 1 + traker*: the same with traker's `BasicProjector`, which makes its matrix again for each row, if installed.
- *share of peak*: floating-point operations per second of the probe, counted by torch, divided by those of a product of
  two square matrices in the same run.
- *extra memory*: the peak of a probe's batch minus the peak of forward and backward for the probed layer (GPU only).
- *embedded model*: differences of features in one batch and alone, on this device and on the CPU, and in bfloat16 and
  fp32, for trained weights and real pictures.
"""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from probe import errors, versions
from probe_setup import SPEC as EMBEDDED_SPEC
from probe_setup import TARGETS, prepare, trainable
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from transformers import AutoModelForImageTextToText, CLIPVisionConfig, LlamaConfig, LlavaConfig

from adapt_infinity.features.batch_reading import read_batch, read_losses
from adapt_infinity.features.batching import TokenBudget, run_in_batches
from adapt_infinity.features.capture import probed_weights
from adapt_infinity.features.spec import Spec
from adapt_infinity.model.checkpoint import ModelParams, Vlm, answer_logits, attach, load_vlm, new_adapter
from adapt_infinity.model.lora import Adapter
from adapt_infinity.model.prompts import Encoded, collate, encode
from adapt_infinity.training.context import answer_loss

QUESTION, ANSWER = (20, 120), (10, 200)  # smallest and largest number of tokens


@dataclass(frozen=True)
class Shape:
    """The sizes in a checkpoint's config, and the usual rank of adapters and width of features."""

    text: dict[str, Any]
    vision: dict[str, Any]
    rank: int
    dim: int

    def config(self) -> Any:
        """The config of a LLaVA with a CLIP vision tower, a two-layer projector and a Llama decoder."""
        places = (self.vision["image_size"] // self.vision["patch_size"]) ** 2
        return LlavaConfig(
            text_config=LlamaConfig(**self.text),
            vision_config=CLIPVisionConfig(**self.vision),
            image_token_index=self.text["vocab_size"] - 1,
            image_seq_length=places,
        )


SHAPES = {
    "llava-1.5-7b": Shape(
        {
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "vocab_size": 32064,
        },
        {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "image_size": 336,
            "patch_size": 14,
            "projection_dim": 768,
        },
        rank=128,
        dim=8192,
    ),
    "tiny": Shape(
        {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "vocab_size": 512,
        },
        {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 56,
            "patch_size": 14,
            "projection_dim": 32,
        },
        rank=8,
        dim=1024,
    ),
}


@dataclass(frozen=True)
class Setting:
    """A model, the rows to read, and the settings of the probe."""

    vlm: Vlm
    rows: list[Encoded]
    spec: Spec
    token_budget: int

    def batches(self, work: Callable[[list[int], int], Any]) -> list[Any]:
        """Call `work(rows, length)` for every batch that the probe makes of these rows."""
        budget = TokenBudget(self.token_budget, 0, self.vlm.device)
        return [found for _, found in run_in_batches([len(row) for row in self.rows], budget, work)]

    def weights(self) -> list[torch.nn.Parameter]:
        """The weights of the probed layer."""
        return list(probed_weights(self.vlm, self.spec.layers).values())


class Operations(TorchDispatchMode):
    """Counts floating-point operations of matrix products and attention, with torch's formulas.

    torch's `FlopCounterMode` uses hooks of modules, which do not work with the probe's backward pass.
    """

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation and count it."""
        out = func(*args, **(kwargs or {}))
        if (formula := flop_registry.get(func._overloadpacket)) is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out


def main() -> None:
    """Make model and rows, run all contenders, print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="llava-1.5-7b")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=16384, help="tokens per batch, including padding")
    parser.add_argument("--dense", type=int, default=1024, help="columns of the dense matrix")
    parser.add_argument("--few", type=int, default=16, help="rows for contenders with batch size 1")
    parser.add_argument("--output", type=Path, default=Path("data/benchmarks/probe_gpu.json"))
    options = parser.parse_args()
    device = torch.device(options.device)
    setting = make_setting(SHAPES[options.shape], device, options.rows, options.tokens)
    few = replace(setting, rows=setting.rows[: options.few])
    matrix = dense_matrix(setting, options.dense)
    peers: dict[str, tuple[Callable[[], object], int]] = {
        "probe": (partial(probe, setting), options.rows),
        "training": (partial(train, setting), options.rows),
        "batch 1 + dense": (lambda: [gradient_of(few, row) @ matrix for row in few.rows], len(few.rows)),
    }
    if importlib.util.find_spec("trak"):
        peers["batch 1 + traker"] = (partial(project_anew, few, options.dense), len(few.rows))
    seconds = interleaved(peers, options.runs, device)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    with Operations() as counted:
        probe(setting)
    reached, peak = counted.total / (medians["probe"] * options.rows), square_product(setting.vlm)
    result: dict[str, Any] = {
        "shape": options.shape,
        "rows": options.rows,
        "mean tokens per row": statistics.fmean(len(row) for row in setting.rows),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} cores",
        "machine": platform.machine(),
        "dtype": str(setting.vlm.base.dtype),
        "versions": versions(),
        "milliseconds per row": {name: [1000 * value for value in values] for name, values in seconds.items()},
        "probe, rows per second": 1 / medians["probe"],
        "probe / training": medians["probe"] / medians["training"],
        **{f"{name} / probe": medians[name] / medians["probe"] for name in medians if name.startswith("batch 1")},
        "probe, TFLOP/s": reached / 1e12,
        "square product, TFLOP/s": peak / 1e12,
        "share of peak": reached / peak,
        **(extra_memory(setting) if device.type == "cuda" else {}),
        **embedded_model(device),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1))
    for name, value in result.items():
        print(f"{name:56} {value if not isinstance(value, float) else f'{value:.4g}'}")


def make_setting(shape: Shape, device: torch.device, rows: int, token_budget: int) -> Setting:
    """A model of this shape with an adapter without zero matrices, and rows for it."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    config = shape.config()
    torch.manual_seed(0)
    with device:
        model = AutoModelForImageTextToText.from_config(config, dtype=dtype).eval().requires_grad_(False)
    vlm = Vlm(model, None, device, 4096)
    params = ModelParams(
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
        max_tokens=4096,
        adapter_rank=shape.rank,
        adapter_alpha=2 * shape.rank,
        adapter_targets=TARGETS,
    )
    fresh = new_adapter(vlm, params, seed=0)
    tensors = {name: tensor + 0.02 * torch.randn(tensor.shape) for name, tensor in fresh.tensors.items()}
    vlm = attach(vlm, Adapter(fresh.config, tensors, fresh.record))
    depth = len(vlm.layers)
    spec = replace(EMBEDDED_SPEC, layers=(depth // 2,), embedding_layer=depth - 1, dim=shape.dim)
    return Setting(vlm, draw_rows(config, rows), spec, token_budget)


def draw_rows(config: Any, rows: int) -> list[Encoded]:
    """Random rows with one picture each."""
    draw, size = torch.Generator().manual_seed(1), config.vision_config.image_size
    made = []
    for number in range(rows):
        question, answer = (int(torch.randint(low, high, (), generator=draw)) for low, high in (QUESTION, ANSWER))
        words = torch.randint(3, config.image_token_index, (question + answer,), generator=draw)
        places = torch.full((config.image_seq_length,), config.image_token_index)
        answers = torch.arange(len(places) + len(words)) >= len(places) + question
        pixels = torch.randn(1, 3, size, size, generator=draw)
        made.append(Encoded(number, torch.cat([places, words]), answers, {"pixel_values": pixels}))
    return made


def probe(setting: Setting) -> None:
    """Run the probe as a worker does, without encoding: losses without pictures, then features, scores, embeddings."""
    image_token = setting.vlm.base.config.image_token_id
    is_text = [row.input_ids != image_token for row in setting.rows]
    bare = [
        Encoded(row.sample_id, row.input_ids[words], row.answers[words], {})
        for row, words in zip(setting.rows, is_text, strict=True)
    ]
    losses = np.empty(len(bare), np.float32)

    def losses_of(places: list[int], length: int) -> None:
        batch = collate([bare[place] for place in places], 0, length=length)
        losses[places] = read_losses(setting.vlm, batch).numpy()

    def read(places: list[int], length: int) -> None:
        batch = collate([setting.rows[place] for place in places], 0, length=length)
        read_batch(setting.vlm, batch, losses[places], setting.spec)

    replace(setting, rows=bare).batches(losses_of)
    setting.batches(read)


def train(setting: Setting) -> None:
    """Forward and backward pass of the same batches for all adapter weights."""
    weights = [weight for name, weight in setting.vlm.model.named_parameters() if "lora_" in name]

    def learn(places: list[int], length: int) -> None:
        differentiate(setting, places, length, weights)

    setting.batches(learn)


def differentiate(setting: Setting, places: list[int], length: int, weights: list[torch.nn.Parameter]) -> None:
    """Forward and backward pass of a batch for these weights."""
    with trainable(weights):
        batch = collate([setting.rows[place] for place in places], 0, length=length)
        torch.autograd.grad(answer_loss(*answer_logits(setting.vlm, batch)), weights, allow_unused=True)


def dense_matrix(setting: Setting, columns: int) -> Tensor:
    """A Rademacher matrix for gradients of the probed layer, in the model's dtype."""
    size = sum(weight.numel() for weight in setting.weights())
    signs = torch.empty(size, columns, dtype=setting.vlm.base.dtype, device=setting.vlm.device)
    return signs.bernoulli_(0.5).mul_(2).sub_(1)


def gradient_of(setting: Setting, row: Encoded) -> Tensor:
    """The gradient of one row's mean answer loss for the probed layer, by an ordinary backward pass."""
    weights = setting.weights()
    with trainable(weights):
        logits, labels = answer_logits(setting.vlm, collate([row], 0))
        found = torch.autograd.grad(cross_entropy(logits[0], labels[0]), weights)
    return torch.cat([gradient.flatten() for gradient in found]).to(setting.vlm.base.dtype)


def project_anew(setting: Setting, columns: int) -> None:
    """Project the same gradients with traker, which makes its matrix again at every call."""
    from trak.projectors import BasicProjector, ProjectionType

    size = sum(weight.numel() for weight in setting.weights())
    device = str(setting.vlm.device)
    projector = BasicProjector(size, columns, seed=0, proj_type=ProjectionType.rademacher, device=device)
    for row in setting.rows:
        projector.project(gradient_of(setting, row).float().unsqueeze(0), model_id=0)


def interleaved(
    peers: dict[str, tuple[Callable[[], object], int]], runs: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds per row of each contender, `runs` times after a warm-up: of the device, or CPU seconds of the process."""
    seconds: dict[str, list[float]] = {name: [] for name in peers}
    for run in range(runs + 1):
        for name, (work, rows) in peers.items():
            taken = timed(work, device)
            if run:
                seconds[name].append(taken / rows)
    return seconds


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of `work`, including waiting for the device; CPU seconds without a GPU."""
    if device.type != "cuda":
        before = time.process_time()
        work()
        return time.process_time() - before
    torch.cuda.synchronize(device)
    before = time.perf_counter()
    work()
    torch.cuda.synchronize(device)
    return time.perf_counter() - before


def square_product(vlm: Vlm) -> float:
    """Operations per second of a product of two square matrices, the fastest of ten: the practical peak."""
    size = 8192 if vlm.device.type == "cuda" else 1024
    one, other = (torch.randn(size, size, device=vlm.device, dtype=vlm.base.dtype) for _ in range(2))
    return 2 * size**3 / min(timed(lambda: one @ other, vlm.device) for _ in range(10))


def extra_memory(setting: Setting) -> dict[str, float]:
    """The peak of the probe's first batch minus that of autograd for the same layer, and its ratio to the bound.

    The bound is 2 · batch · (largest weight) · 4 B + batch · dim · 4 B.
    """
    rows = sorted(setting.rows, key=len)[: max(1, setting.token_budget // max(len(row) for row in setting.rows))]
    here, device = replace(setting, rows=rows), setting.vlm.device
    places, length = list(range(len(rows))), len(rows[-1])
    bare = np.full(len(rows), np.nan, np.float32)
    weights = here.weights()
    works: dict[str, Callable[[], object]] = {
        "plain": lambda: differentiate(here, places, length, weights),
        "probe": lambda: read_batch(here.vlm, collate(rows, 0, length=length), bare, here.spec),
    }
    peaks = {}
    for name, work in works.items():
        work()  # makes and caches the sketch's plan, which does not count
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        peaks[name] = torch.cuda.max_memory_allocated(device) - before
    bound = 2 * len(rows) * max(weight.numel() for weight in weights) * 4 + len(rows) * here.spec.dim * 4
    extra = peaks["probe"] - peaks["plain"]
    return {
        "memory: rows of the batch": float(len(rows)),
        **{f"memory: {name}, GB": value / 1e9 for name, value in peaks.items()},
        "memory: (probe - plain) / bound": extra / bound,
        "memory: (probe - plain) / (plain + weights)": extra / (peaks["plain"] + torch.cuda.memory_allocated(device)),
    }


def embedded_model(device: torch.device) -> dict[str, float]:
    """The differences of the embedded model's features between batch sizes, devices and dtypes."""
    with tempfile.TemporaryDirectory() as folder:
        samples, job = prepare(Path(folder), 64)
        found = {}
        for name, where, dtype in (
            ("cpu", "cpu", "float32"),
            ("fp32", str(device), "float32"),
            ("bf16", str(device), "bfloat16"),
        ):
            vlm = load_vlm(job.base, replace(job.model, device=where, dtype=dtype), job.adapter)
            rows = [encode(vlm, sample, job.pictures) for sample in samples]
            bare = np.full(len(rows), np.nan, np.float32)
            found[name] = read_batch(vlm, collate(rows, 0), bare, EMBEDDED_SPEC).features
            if name == "fp32":
                error = errors(vlm, samples[:32], job.pictures)
    relative = (found["fp32"] - found["cpu"]).norm(dim=1) / found["cpu"].norm(dim=1)
    return {
        "embedded model: relative error against batch 1, largest": max(error),
        "embedded model: relative error against the CPU, largest": relative.max().item(),
        "embedded model: cosine of bfloat16 and fp32, median": _cosines(found["bf16"], found["fp32"]).median().item(),
        "embedded model: cosine of bfloat16 and fp32, lowest": _cosines(found["bf16"], found["fp32"]).min().item(),
    }


def _cosines(one: Tensor, other: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(one, other, dim=1)


if __name__ == "__main__":
    main()
