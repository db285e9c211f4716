"""Other ways to compute per-sample LoRA gradients, with the same samples, weights and width of features.

On the embedded model, with pictures:

- *batch 1 + dense*: one backward pass per sample; the LoRA gradient of the layer is multiplied with a dense Rademacher
  matrix of the same width, which is made once.
- *batch 1 + traker*: the same gradients, projected with traker's `BasicProjector` (Park et al. 2023, arXiv:2303.14186),
  which makes its matrix again at every call: for each sample, or for 16 samples as in LESS (arXiv:2402.04333). Because
  it is slow, it reads only every 64th or every 4th sample.
- *vmap + our sketch*: `torch.func.vmap(grad)` over the same batches. The whole model cannot be mapped, because
  inserting pictures and making the attention mask depend on values. So pictures are inserted before, and there is no
  mask, which changes nothing for a causal model with padding on the right. Scores and embeddings are not computed.

On a text-only Llama with the text configuration of the embedded model, and the same conversations without pictures:

- *probe of text*: features, scores and embeddings, without encoding.
- *bergson*: `InMemoryCollector` (EleutherAI) with rows in memory and the same batches; only the probed weights need
  gradients (by default its backward pass goes down to the embeddings). *two-sided*: its usual projection to 8 × 8
  numbers for each of 14 weights, 896 in total. *global*: a dense projection to the same width as ours.

bergson needs its own environment: `pip install bergson==2.5.1` installs torchvision and torchaudio, which the index has
for CUDA only; with a CPU build of torch, uninstall both (bergson does not import them). The results have one line for
each tool that is not installed.
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from probe_setup import DIM, LAYER, SPEC, TOKENS, trainable
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM

from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import IGNORED_LABEL, Sample
from adapt_infinity.features import sketches
from adapt_infinity.features.batch_reading import BatchReading, read_batch
from adapt_infinity.features.batching import TokenBudget, run_in_batches
from adapt_infinity.features.capture import probed_weights
from adapt_infinity.features.worker import ProbeJob
from adapt_infinity.model.checkpoint import Batch, Vlm, answer_logits, attach, load_reader, new_adapter
from adapt_infinity.model.lora import Adapter
from adapt_infinity.model.merging import merge_adapter
from adapt_infinity.model.prompts import Encoded, collate, encode, pad_token

NO_TRAKER = 'not installed: pip install -e ".[bench]"'
NO_BERGSON = "not installed: pip install bergson==2.5.1 (and, beside a CPU torch, uninstall torchvision and torchaudio)"
INTERVAL = 16  # samples per projection in LESS
SIDE = 8  # rows and columns per weight in bergson's projection: 14 · 8² = 896 numbers
TEXT_TARGETS = r".*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


@dataclass(frozen=True)
class Peer:
    """A function to be timed, and the number of rows that it reads."""

    run: Callable[[], object]
    rows: int


def image_peers(vlm: Vlm, samples: list[Sample], pictures: Pictures) -> dict[str, Peer | str]:
    """The contenders that read pictures."""
    by_hand: dict[str, Peer | str] = {
        "batch 1 + dense": Peer(partial(project_dense, vlm, samples, pictures), len(samples)),
        "batch 1 + traker a sample": NO_TRAKER,
        "batch 1 + traker for 16": NO_TRAKER,
        "vmap + our sketch": Peer(partial(map_over_samples, vlm, samples, pictures), len(samples)),
    }
    if importlib.util.find_spec("trak"):
        few, some = samples[::64], samples[::4]
        by_hand["batch 1 + traker a sample"] = Peer(partial(project_anew, vlm, few, pictures, 1), len(few))
        by_hand["batch 1 + traker for 16"] = Peer(partial(project_anew, vlm, some, pictures, INTERVAL), len(some))
    return by_hand


def text_peers(job: ProbeJob, samples: list[Sample], folder: Path) -> dict[str, Peer | str]:
    """The contenders that read no pictures, and the probe on the same text."""
    reader = load_reader(job.base, job.model)
    rows = [encode(reader, sample.without_images(), job.pictures) for sample in samples]
    peers: dict[str, Peer | str] = {
        "probe of text": Peer(partial(read_batches, _merge(_text_model(job)), rows), len(rows)),
        "bergson two-sided": NO_BERGSON,
        "bergson global": NO_BERGSON,
    }
    if importlib.util.find_spec("bergson"):
        vlm = _text_model(job)
        for name, target, width in (("two-sided", "per_module", SIDE), ("global", "global", DIM)):
            peers[f"bergson {name}"] = Peer(Bergson(vlm, rows, folder, target, width).collect, len(rows))
    return peers


def differences(vlm: Vlm, job: ProbeJob, samples: list[Sample], folder: Path) -> dict[str, float | str]:
    """Largest relative differences from our results: of a row's features (vmap), of a gradient's norm (bergson)."""
    rows = encoded(vlm, samples, job.pictures)
    ours = _in_order(read_batches(vlm, rows), lambda reading: reading.features)
    mapped = map_over_samples(vlm, samples, job.pictures)
    found: dict[str, float | str] = {
        "difference of vmap": ((mapped - ours).norm(dim=1) / ours.norm(dim=1)).max().item(),
        "difference of bergson": NO_BERGSON,
    }
    if importlib.util.find_spec("bergson"):
        text = _text_model(job)
        bare = [encode(vlm, sample.without_images(), job.pictures) for sample in samples]
        lengths = _in_order(read_batches(_merge(_text_model(job)), bare), lambda reading: reading.scores["grand"])
        theirs = Bergson(text, bare, folder, "per_module", 0).collect().norm(dim=1)
        found["difference of bergson"] = (theirs / lengths - 1).abs().max().item()
    return found


def project_dense(vlm: Vlm, samples: list[Sample], pictures: Pictures) -> Float[Tensor, "samples dim"]:
    """Each sample's LoRA gradient of the layer, by autograd, times a dense matrix that is made once."""
    size = sum(weight.numel() for weight in probed_weights(vlm, (LAYER,)).values())
    draw = torch.Generator().manual_seed(0)
    dense = torch.randint(0, 2, (size, DIM), generator=draw, dtype=torch.int8).float().mul_(2).sub_(1)
    return torch.stack([gradient_of(vlm, sample, pictures) @ dense for sample in samples])


def project_anew(vlm: Vlm, samples: list[Sample], pictures: Pictures, interval: int) -> Float[Tensor, "samples dim"]:
    """The same gradients, projected `interval` at a time with traker, which makes its matrix again at every call."""
    from trak.projectors import BasicProjector, ProjectionType

    size = sum(weight.numel() for weight in probed_weights(vlm, (LAYER,)).values())
    projector = BasicProjector(size, DIM, seed=0, proj_type=ProjectionType.rademacher, device="cpu")
    made = []
    for start in range(0, len(samples), interval):
        gradients = [gradient_of(vlm, sample, pictures) for sample in samples[start : start + interval]]
        made.append(projector.project(torch.stack(gradients), model_id=0))
    return torch.cat(made)


def gradient_of(vlm: Vlm, sample: Sample, pictures: Pictures) -> Float[Tensor, " size"]:
    """The gradient of one sample's mean answer loss for the probed weights, by an ordinary backward pass."""
    weights = list(probed_weights(vlm, (LAYER,)).values())
    with trainable(weights):
        logits, labels = answer_logits(vlm, collate([encode(vlm, sample, pictures)], pad_token(vlm)))
        found = torch.autograd.grad(cross_entropy(logits[0], labels[0]), weights)
    return torch.cat([gradient.flatten() for gradient in found])


def map_over_samples(vlm: Vlm, samples: list[Sample], pictures: Pictures) -> Float[Tensor, "samples dim"]:
    """Per-sample gradients with `vmap(grad)` in the probe's batches, followed by the probe's sketch."""
    trunk = vlm.base.get_decoder()
    names = {id(weight): name for name, weight in trunk.named_parameters()}
    named = {names[id(weight)]: (name, weight) for name, weight in probed_weights(vlm, (LAYER,)).items()}
    weights = {inner: weight.detach() for inner, (_, weight) in named.items()}
    sketch = sketches.load(SPEC.sketch)

    def loss(weights: dict[str, Tensor], words: Float[Tensor, "time width"], labels: Tensor) -> Tensor:
        given = {"inputs_embeds": words.unsqueeze(0), "use_cache": False}
        hidden = functional_call(trunk, weights, kwargs=given).last_hidden_state[:, :-1]
        return cross_entropy(vlm.head(hidden).float()[0], labels[1:])

    rows = encoded(vlm, samples, pictures)
    made = torch.empty(len(rows), DIM)
    for places, batch in _batches(rows, pad_token(vlm)):
        gradients = vmap(grad(loss), in_dims=(None, 0, 0))(weights, _merged(vlm, batch), batch.labels)
        made[places] = torch.stack([sketch(gradients[inner], name, DIM) for inner, (name, _) in named.items()]).sum(0)
    return made


def read_batches(vlm: Vlm, rows: Sequence[Encoded]) -> list[tuple[list[int], BatchReading]]:
    """Run the probe on encoded rows; returns the indices and the reading of each batch."""
    return [
        (places, read_batch(vlm, batch, np.full(len(places), np.nan, np.float32), SPEC))
        for places, batch in _batches(rows, 0)
    ]


def encoded(vlm: Vlm, samples: Sequence[Sample], pictures: Pictures) -> list[Encoded]:
    """The encoded samples, with pictures."""
    return [encode(vlm, sample, pictures) for sample in samples]


class Bergson:
    """bergson's collector for a text model, used through its Python interface."""

    def __init__(self, vlm: Vlm, rows: Sequence[Encoded], folder: Path, target: str, width: int) -> None:
        from datasets import Dataset

        self._vlm, self._folder, self._target, self._width = vlm, folder, target, width
        answers = [row.input_ids.where(row.answers, IGNORED_LABEL).tolist() for row in rows]
        self._data = Dataset.from_dict({"input_ids": [row.input_ids.tolist() for row in rows], "labels": answers})
        self._batches = [places for places, _ in _batches(rows, 0)]
        probed = {id(weight) for weight in probed_weights(vlm, (LAYER,)).values()}
        modules = vlm.model.base_model.named_modules()
        self._modules = {name for name, module in modules if id(getattr(module, "weight", None)) in probed}

    def collect(self) -> Float[Tensor, "samples numbers"]:
        """Each sample's projected gradient, concatenated over weights."""
        import bergson

        config = bergson.IndexConfig(run_path=str(self._folder / "bergson"), loss_reduction="mean")
        config.partial_run_path.mkdir(exist_ok=True)
        processor = bergson.GradientProcessor(projection_dim=self._width, projection_target=self._target)
        model: Any = self._vlm.model
        with trainable(list(probed_weights(self._vlm, (LAYER,)).values())):
            collector = bergson.InMemoryCollector(
                model=model.base_model, data=self._data, cfg=config, processor=processor, target_modules=self._modules
            )
            work = bergson.CollectorComputer(model, self._data, collector=collector, batches=self._batches, cfg=config)
            work.run_with_collector_hooks()
        return torch.cat(list(collector.gradients.values()), dim=1)


def _batches(rows: Sequence[Encoded], pad: int) -> list[tuple[list[int], Batch]]:
    """The batches that the probe makes of these rows; each row is in exactly one."""
    budget = TokenBudget(TOKENS, 0, torch.device("cpu"))
    made = []
    for doubled, length in run_in_batches([len(row) for row in rows], budget, lambda _places, length: length):
        places = list(dict.fromkeys(doubled))
        made.append((places, collate([rows[place] for place in places], pad, length=length)))
    return made


@torch.no_grad()
def _merged(vlm: Vlm, batch: Batch) -> Float[Tensor, "batch time width"]:
    """Input embeddings of text and pictures, inserted as LLaVA does."""
    words = vlm.base.get_input_embeddings()(batch.input_ids)
    if not batch.extras:
        return words
    seen = vlm.base.get_image_features(**batch.extras).pooler_output
    places = (batch.input_ids == vlm.base.config.image_token_id).unsqueeze(-1)
    return words.masked_scatter(places, torch.cat(list(seen)))


def _text_model(job: ProbeJob) -> Vlm:
    """A Llama with the text configuration of the embedded model, with a LoRA adapter without zero matrices."""
    config = AutoConfig.from_pretrained(str(job.base.location)).get_text_config()
    config.image_token_id = -1  # no token is a picture
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    vlm = Vlm(model, None, torch.device("cpu"), job.model.max_tokens)
    fresh = new_adapter(vlm, replace(job.model, adapter_targets=TEXT_TARGETS), seed=0)
    draw = torch.Generator().manual_seed(1)
    tensors = {
        name: tensor + 0.02 * torch.randn(tensor.shape, generator=draw) for name, tensor in fresh.tensors.items()
    }
    return attach(vlm, Adapter(fresh.config, tensors, fresh.record))


def _in_order(readings: list[tuple[list[int], BatchReading]], part: Callable[[BatchReading], Tensor]) -> Tensor:
    """One part of all readings, in the order of the rows."""
    order = torch.tensor([place for places, _ in readings for place in places])
    return torch.cat([part(reading) for _, reading in readings])[order.argsort()]


def _merge(vlm: Vlm) -> Vlm:
    merge_adapter(vlm, (LAYER,))
    return vlm
