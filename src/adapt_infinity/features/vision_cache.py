"""Vision cache: the outputs of a frozen vision tower, computed once per picture and found by the picture's pixels.

A pool has many questions about the same picture, often close together. The cache holds what the projector reads: the
hidden layers that the model's config names (`vision_feature_layer`) and the last hidden state. Its size is limited;
the pictures that were used longest ago are dropped first.
"""

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from adapt_infinity.model.checkpoint import Vlm

log = logging.getLogger(__name__)
LAST = "last"


def cache_vision_outputs(vlm: Vlm, cache_mb: int) -> "VisionCache | None":
    """Put a cache of `cache_mb` MB in front of the model's vision tower, for the rest of the model's life.

    Returns None, with a message in the log, where this is not possible: the model has no vision tower, or the tower is
    not frozen, so that its outputs change.
    """
    tower = getattr(getattr(vlm.base, "model", None), "vision_tower", None)
    reason = ""
    if not isinstance(tower, nn.Module):
        reason = "the model has no module of the name vision_tower"
    elif any("lora_" in name or weight.requires_grad for name, weight in tower.named_parameters()):
        reason = "the vision tower is not frozen"
    if reason:
        log.info("outputs of the vision tower are not cached (probe.image_cache_mb): %s", reason)
        return None
    assert isinstance(tower, nn.Module)
    layers = getattr(vlm.base.config, "vision_feature_layer", None)
    listed = [layers] if isinstance(layers, int) else list(layers or [])
    cache = VisionCache(tower, listed, cache_mb * 2**20)
    tower.forward = cache.forward
    return cache


class _CachedLayers(dict[int, Tensor]):
    """Hidden states by layer. It takes the place of transformers' tuple, of which only some layers are cached."""

    def __missing__(self, layer: int) -> Tensor:
        raise KeyError(f"hidden state {layer} of the vision tower is not cached; set probe.image_cache_mb to 0")


class VisionCache:
    """The forward pass of a vision tower, with a cache. Counts `bytes`, `hits` and `misses`."""

    def __init__(self, tower: nn.Module, layers: list[int], max_bytes: int) -> None:
        self._compute, self._layers, self._max_bytes = tower.forward, layers, max_bytes
        self._cached: OrderedDict[bytes, dict[int | str, Tensor]] = OrderedDict()
        self.bytes = 0
        self.hits = self.misses = 0

    def forward(self, pixel_values: Tensor, *args: Any, **kwargs: Any) -> Any:
        """The tower's outputs for pictures [n, channels, height, width].

        Other inputs are not cached and go to the tower as they are: flat patches, inputs that need a gradient, and
        calls with further tensors.
        """
        if pixel_values.dim() != 4 or (torch.is_grad_enabled() and pixel_values.requires_grad):
            return self._compute(pixel_values, *args, **kwargs)
        options = repr((args, sorted((name, value) for name, value in kwargs.items() if not isinstance(value, Tensor))))
        if any(isinstance(value, Tensor) for value in kwargs.values()):
            return self._compute(pixel_values, *args, **kwargs)
        prefix = f"{tuple(pixel_values.shape[1:])} {pixel_values.dtype} {options}".encode()
        keys = [_digest(prefix, picture) for picture in pixel_values]
        new = {key: index for index, key in reversed(list(enumerate(keys))) if key not in self._cached}
        self.hits += len(keys) - len(new)
        self.misses += len(new)
        found = {key: self._cached[key] for key in keys if key in self._cached}
        if new:
            indices = sorted(new.values())
            computed = self._select(self._compute(pixel_values[indices], *args, **kwargs))
            for row, index in enumerate(indices):
                found[keys[index]] = {name: values[row].clone() for name, values in computed.items()}
        for key in dict.fromkeys(keys):
            self._store(key, found[key])
        stacked = {name: torch.stack([found[key][name] for key in keys]) for name in found[keys[0]]}
        hidden = _CachedLayers({name: values for name, values in stacked.items() if isinstance(name, int)})
        return BaseModelOutputWithPooling(last_hidden_state=stacked[LAST], hidden_states=hidden or None)  # type: ignore[arg-type]

    def _select(self, output: Any) -> Mapping[int | str, Tensor]:
        """The outputs that the projector reads."""
        selected: dict[int | str, Tensor] = {LAST: output.last_hidden_state}
        if output.hidden_states is not None:
            selected |= {layer: output.hidden_states[layer] for layer in self._layers}
        return selected

    def _store(self, key: bytes, outputs: dict[int | str, Tensor]) -> None:
        size = sum(values.nbytes for values in outputs.values())
        if key in self._cached:
            self._cached.move_to_end(key)
        elif size <= self._max_bytes:
            self._cached[key] = outputs
            self.bytes += size
        while self.bytes > self._max_bytes:
            _, dropped = self._cached.popitem(last=False)
            self.bytes -= sum(values.nbytes for values in dropped.values())


def _digest(prefix: bytes, picture: Tensor) -> bytes:
    content = picture.detach().contiguous().cpu().view(torch.uint8).numpy()
    return hashlib.blake2b(prefix + content.tobytes(), digest_size=16).digest()
