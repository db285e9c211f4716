"""Loading a checkpoint, putting a LoRA adapter (Hu et al. 2021, arXiv:2106.09685) on it, and its answer logits.

Any image-text-to-text checkpoint of transformers will do. The code does not depend on the model's family or size:
modules are found by the regular expression in `model.adapter_targets`, decoder layers by `get_decoder().layers`. What
is not supported is refused with an error of one line.
"""

import hashlib
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float, Int
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, GenerationConfig

from adapt_infinity.data.sample import IGNORED_LABEL
from adapt_infinity.model import adapters
from adapt_infinity.model.lora import CONFIG_KEYS, Adapter, join_ranks, scaling, split_ranks
from adapt_infinity.parameters import OneOf, PositiveInt, RegularExpression, Satisfies, check

TORCH_DEVICE = Satisfies(re.compile(r"[a-z]+(:\d+)?").fullmatch, "auto, cpu, cuda or cuda:<number>")
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class ModelParams:
    """params:model."""

    SECTION: ClassVar[str] = "model"

    device: Annotated[str, TORCH_DEVICE] = "auto"  # auto, cpu, cuda, cuda:1, or another of torch's devices
    dtype: Annotated[str, OneOf(DTYPES)] = "float32"  # of the base model's weights
    max_tokens: PositiveInt = 512  # longest conversation, image tokens included
    adapter_rank: PositiveInt = 16
    adapter_alpha: PositiveInt = 32  # the adapter's product counts adapter_alpha / adapter_rank times
    # regular expression over the names of linear modules: the language model's and the projector's
    adapter_targets: RegularExpression = (
        r".*(language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
        r"|multi_modal_projector\.linear_[12])"
    )

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Checkpoint:
    """Where the base model is: a folder in Hugging Face's layout, or a model's name on its hub."""

    location: str | Path


@dataclass(frozen=True)
class Vlm:
    """A vision-language model in memory and its processor. It lives inside one node and never enters the catalog."""

    model: Any  # PreTrainedModel, or PeftModel around one
    processor: Any
    device: torch.device
    max_tokens: int  # longest conversation, image tokens included
    # What the adapter on the model brings with it; all empty without an adapter.
    frozen: Mapping[str, Tensor] = field(default_factory=dict)  # tensors of frozen ranks, merged into the base weights
    adapter_type: Mapping[str, Any] = field(default_factory=dict)  # see `adapters/`; empty for plain LoRA
    extra_tensors: dict[str, Tensor] = field(default_factory=dict)  # of the adapter type, as they are on the model
    original_weights: Mapping[str, Tensor] = field(default_factory=dict)  # base weights that the adapter type replaces

    @property
    def base(self) -> Any:
        """The transformers model, whether or not an adapter is on it."""
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    @property
    def generation_config(self) -> Any:
        """Transformers' settings of `generate`, such as the end tokens."""
        return self.base.generation_config

    @property
    def layers(self) -> nn.ModuleList:
        """The language model's decoder layers, bottom first."""
        layers: nn.ModuleList = self.base.get_decoder().layers
        return layers

    @property
    def head(self) -> nn.Module:
        """The module that maps hidden states to logits over the vocabulary."""
        head: nn.Module = self.base.get_output_embeddings()
        return head


@dataclass(frozen=True)
class Reader:
    """A processor without its model, which is enough to turn samples into tokens."""

    processor: Any
    generation_config: Any
    max_tokens: int


def load_reader(checkpoint: Checkpoint, params: ModelParams) -> Reader:
    """The checkpoint's processor and generation config. No weight is read."""
    location = str(checkpoint.location)
    processor = AutoProcessor.from_pretrained(location, trust_remote_code=False)
    try:
        generation = GenerationConfig.from_pretrained(location)
    except OSError:  # the checkpoint has no generation_config.json, which is optional
        generation = GenerationConfig.from_model_config(AutoConfig.from_pretrained(location, trust_remote_code=False))
    return Reader(processor, generation, params.max_tokens)


def load_vlm(checkpoint: Checkpoint, params: ModelParams, adapter: Adapter | None = None) -> Vlm:
    """The checkpoint in eval mode, with all weights frozen, and with `adapter` on it if one is given.

    `ValueError` for a model that rescales its logits after the head.
    """
    device = torch.device(_choose_device() if params.device == "auto" else params.device)
    location = str(checkpoint.location)
    model: Any = AutoModelForImageTextToText.from_pretrained(
        location, dtype=getattr(torch, params.dtype), use_safetensors=True, trust_remote_code=False
    )
    scale = _logit_scaling(model.config.get_text_config())
    if scale:
        raise ValueError(f"{location} rescales its logits ({scale}), and answer logits cannot be computed then")
    processor = AutoProcessor.from_pretrained(location, trust_remote_code=False)
    vlm = Vlm(model.to(device).requires_grad_(False).eval(), processor, device, params.max_tokens)
    return vlm if adapter is None else attach(vlm, adapter)


def new_adapter(vlm: Vlm, params: ModelParams, seed: int) -> Adapter:
    """A fresh adapter (B = 0) for the model, which stays as it was.

    `ValueError` when no module matches `model.adapter_targets`.
    """
    config = LoraConfig(
        r=params.adapter_rank, lora_alpha=params.adapter_alpha, target_modules=params.adapter_targets, lora_dropout=0.0
    )
    with torch.random.fork_rng(devices=[]):  # PEFT draws A from the global generator, which is restored
        torch.manual_seed(seed)
        try:
            wrapped = _wrap(vlm.model, config)
        except ValueError as error:
            raise ValueError(f"model.adapter_targets: {error}") from error
    adapter = detach(Vlm(wrapped, vlm.processor, vlm.device, vlm.max_tokens), {"steps": 0, "rounds": []})
    wrapped.unload()
    return adapter


def attach(vlm: Vlm, adapter: Adapter) -> Vlm:
    """The model with the adapter on it, in eval mode and frozen. Changes `vlm.model` in place.

    Frozen ranks are merged into the base weights, the other ranks become LoRA modules. `ValueError` when the adapter
    has tensors for modules that the model does not have.
    """
    frozen, live = split_ranks(adapter)
    _merge(vlm.model, frozen, scaling(live.config))
    wrapped = _wrap(vlm.model, LoraConfig(**live.config))
    outcome: Any = set_peft_model_state_dict(wrapped, dict(live.tensors))
    if outcome.unexpected_keys:
        raise ValueError(f"the adapter does not fit the model: {outcome.unexpected_keys[:3]}")
    attached = Vlm(wrapped, vlm.processor, vlm.device, vlm.max_tokens, frozen)
    if adapter.adapter_type:
        attached = apply_adapter_type(attached, adapter.adapter_type, adapter.extra_tensors)
    attached.model.requires_grad_(False).eval()
    return attached


def apply_adapter_type(vlm: Vlm, adapter_type: Mapping[str, Any], extra_tensors: Mapping[str, Tensor]) -> Vlm:
    """The model whose plain LoRA becomes an adapter of another type (see `adapters/`)."""
    live, originals = adapters.load(adapter_type["kind"]).attach(vlm.model, adapter_type, extra_tensors)
    return replace(vlm, adapter_type=adapter_type, extra_tensors=live, original_weights=originals)


def detach(vlm: Vlm, record: Mapping[str, Any], moments: Mapping[str, Tensor] | None = None) -> Adapter:
    """A copy of the adapter that is on the model, on the CPU, frozen ranks included. The model stays as it is."""
    tensors = {
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in sorted(get_peft_model_state_dict(vlm.model).items())
        if name.removeprefix("base_model.model.") not in vlm.extra_tensors  # PEFT lists the extra tensors as its own
    }
    config = vlm.model.active_peft_config.to_dict()
    extra = {
        name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in sorted(vlm.extra_tensors.items())
    }
    live = Adapter(
        {name: config[name] for name in CONFIG_KEYS},
        tensors,
        record,
        moments or {},
        adapter_type=vlm.adapter_type,
        extra_tensors=extra,
    )
    return join_ranks(vlm.frozen, live)


def decoder_depth(checkpoint: Checkpoint) -> int:
    """How many decoder layers the language model has, from the config alone."""
    config = AutoConfig.from_pretrained(str(checkpoint.location), trust_remote_code=False)
    return int(config.get_text_config(decoder=True).num_hidden_layers)


@dataclass(frozen=True)
class DecoderSize:
    """How many layers a language model has, and how many weights are in them."""

    layers: int
    weights: int


def decoder_size(checkpoint: Checkpoint) -> DecoderSize:
    """The size of the language model, from the config alone: no weight is read or allocated."""
    config = AutoConfig.from_pretrained(str(checkpoint.location), trust_remote_code=False)
    with torch.device("meta"):
        model: Any = AutoModelForImageTextToText.from_config(config, trust_remote_code=False)
    layers = model.get_decoder().layers
    return DecoderSize(len(layers), sum(weight.numel() for weight in layers.parameters()))


def base_digest(checkpoint: Checkpoint) -> str:
    """16 hexadecimal digits that identify a checkpoint: of a folder, its files; of a hub model, its name and commit."""
    folder = Path(checkpoint.location)
    digest = hashlib.blake2b(digest_size=8)
    if not folder.is_dir():
        config = AutoConfig.from_pretrained(str(checkpoint.location), trust_remote_code=False)
        digest.update(f"{checkpoint.location} {getattr(config, '_commit_hash', None)}".encode())
        return digest.hexdigest()
    for file in sorted(folder.rglob("*")):
        if file.is_file() and not file.name.startswith("."):
            with file.open("rb") as content:
                digest.update(file.relative_to(folder).as_posix().encode())
                digest.update(hashlib.file_digest(content, "blake2b").digest())
    return digest.hexdigest()


def arithmetic(params: ModelParams) -> str:
    """Kind of device and number format, such as "cpu-float32". Under another, a model gives other last digits."""
    chosen = _choose_device() if params.device == "auto" else params.device
    return f"{torch.device(chosen).type}-{params.dtype}"


@dataclass(frozen=True)
class Batch:
    """Padded conversations, ready for the model."""

    input_ids: Int[Tensor, "batch time"]
    attention_mask: Int[Tensor, "batch time"]
    labels: Int[Tensor, "batch time"]
    extras: dict[str, Tensor]  # pixel_values and other outputs of the processor, over all pictures; empty without one

    def inputs(self, device: torch.device) -> dict[str, Tensor]:
        """Keyword arguments for the model's forward pass and for `generate`."""
        tensors = {"input_ids": self.input_ids, "attention_mask": self.attention_mask, **self.extras}
        return {name: tensor.to(device) for name, tensor in tensors.items()}


def answer_hidden_states(
    vlm: Vlm, batch: Batch
) -> tuple[Float[Tensor, "batch answers width"], Int[Tensor, "batch answers"]]:
    """The input of the head and the labels, at answer positions only, from one forward pass.

    Rows with fewer answer tokens than the longest are padded on the right with `IGNORED_LABEL`. The head never sees
    prompt, image or padding positions: with a vocabulary of 150,000 words they are most of the memory of a step.
    """
    trunk = getattr(vlm.base, vlm.base.base_model_prefix)
    hidden = trunk(**batch.inputs(vlm.device), use_cache=False).last_hidden_state[:, :-1]
    targets = batch.labels[:, 1:]
    is_answer = targets != IGNORED_LABEL
    longest = int(is_answer.sum(dim=1).max())  # labels are still on the CPU, so this does not wait for the device
    order = torch.argsort((~is_answer).to(torch.int8), dim=1, stable=True)[:, :longest]
    labels, order = targets.gather(1, order).to(vlm.device), order.to(vlm.device)
    return hidden.gather(1, order.unsqueeze(-1).expand(-1, -1, hidden.shape[-1])), labels


def answer_logits(vlm: Vlm, batch: Batch) -> tuple[Float[Tensor, "batch answers words"], Int[Tensor, "batch answers"]]:
    """Logits (fp32) and labels at answer positions only; see `answer_hidden_states`."""
    states, labels = answer_hidden_states(vlm, batch)
    return vlm.head(states).float(), labels


def _wrap(model: Any, config: LoraConfig) -> Any:
    with warnings.catch_warnings():  # PEFT uses a property of transformers under its old name
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        return get_peft_model(model, config)


def _merge(model: Any, frozen: Mapping[str, Tensor], factor: float) -> None:
    """W ← W + factor · B A for every adapted module, in fp32."""
    for name in frozen:
        if ".lora_A." in name:
            path = name.removeprefix("base_model.model.").split(".lora_A.")[0]
            a, b = frozen[name], frozen[name.replace(".lora_A.", ".lora_B.")]
            weight = model.get_submodule(path).weight
            change = factor * (b.to(weight.device).float() @ a.to(weight.device).float())
            weight.data = (weight.data.float() + change).to(weight.dtype)


def _choose_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _logit_scaling(config: Any) -> str:
    """The config entry by which the model rescales its logits after the head; "" when there is none."""
    names = ("final_logit_softcapping", "logit_scale", "logits_scaling")
    return next((name for name in names if getattr(config, name, None) not in (None, 1, 1.0)), "")
