"""A frozen vision tower need not see a picture twice: its outputs are remembered by the picture's pixels.

Pools hold many questions on one picture, and near ones stand close together. What is kept is what the projector reads:
the hidden layers that the model's config names (`vision_feature_layer`) and the last hidden state; bounded, the
longest unused first to go.
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
    """Put a memory of `cache_mb` MB in front of the model's vision tower, for good.

    None, with a line in the log, where that cannot be: no tower, an adapter on it (its outputs change), or one that
    takes flat patches in place of pictures.
    """
    tower = getattr(getattr(vlm.base, "model", None), "vision_tower", None)
    why = ""
    if not isinstance(tower, nn.Module):
        why = "the model has no part of the name vision_tower"
    elif any("lora_" in name or weight.requires_grad for name, weight in tower.named_parameters()):
        why = "the vision tower is not frozen"
    if why:
        log.info("pictures are not remembered (probe.image_cache_mb): %s", why)
        return None
    assert isinstance(tower, nn.Module)
    layers = getattr(vlm.base.config, "vision_feature_layer", None)
    listed = [layers] if isinstance(layers, int) else list(layers or [])
    memory = VisionCache(tower, listed, cache_mb * 2**20)
    tower.forward = memory.forward
    return memory


class _Layers(dict[int, Tensor]):
    """Stands for a tuple of hidden states of which only some are known."""

    def __missing__(self, layer: int) -> Tensor:
        raise KeyError(f"hidden state {layer} of the vision tower is not remembered; set probe.image_cache_mb to 0")


class VisionCache:
    """The tower's forward pass with a memory."""

    def __init__(self, tower: nn.Module, layers: list[int], limit: int) -> None:
        self._compute, self._layers, self._limit = tower.forward, layers, limit
        self._kept: OrderedDict[bytes, dict[int | str, Tensor]] = OrderedDict()
        self.bytes = 0
        self.hits = self.misses = 0

    def forward(self, pixel_values: Tensor, *args: Any, **kwargs: Any) -> Any:
        """As the tower's, for pictures [n, channels, height, width]; anything else goes to the tower as it is."""
        if pixel_values.dim() != 4 or (torch.is_grad_enabled() and pixel_values.requires_grad):
            return self._compute(pixel_values, *args, **kwargs)
        say = repr((args, sorted((name, value) for name, value in kwargs.items() if not isinstance(value, Tensor))))
        if any(isinstance(value, Tensor) for value in kwargs.values()):
            return self._compute(pixel_values, *args, **kwargs)
        shape = f"{tuple(pixel_values.shape[1:])} {pixel_values.dtype} {say}".encode()
        keys = [_digest(shape, picture) for picture in pixel_values]
        fresh = {key: place for place, key in reversed(list(enumerate(keys))) if key not in self._kept}
        self.hits += len(keys) - len(fresh)
        self.misses += len(fresh)
        found = {key: self._kept[key] for key in keys if key in self._kept}
        if fresh:
            places = sorted(fresh.values())
            made = self._taken(self._compute(pixel_values[places], *args, **kwargs))
            for row, place in enumerate(places):
                found[keys[place]] = {name: values[row].clone() for name, values in made.items()}
        for key in dict.fromkeys(keys):
            self._keep(key, found[key])
        stacked = {name: torch.stack([found[key][name] for key in keys]) for name in found[keys[0]]}
        hidden = _Layers({name: values for name, values in stacked.items() if isinstance(name, int)})
        return BaseModelOutputWithPooling(last_hidden_state=stacked[LAST], hidden_states=hidden or None)  # type: ignore[arg-type]

    def _taken(self, output: Any) -> Mapping[int | str, Tensor]:
        taken: dict[int | str, Tensor] = {LAST: output.last_hidden_state}
        if output.hidden_states is not None:
            taken |= {layer: output.hidden_states[layer] for layer in self._layers}
        return taken

    def _keep(self, key: bytes, rows: dict[int | str, Tensor]) -> None:
        size = sum(row.nbytes for row in rows.values())
        if key in self._kept:
            self._kept.move_to_end(key)
        elif size <= self._limit:
            self._kept[key] = rows
            self.bytes += size
        while self.bytes > self._limit:
            _, gone = self._kept.popitem(last=False)
            self.bytes -= sum(row.nbytes for row in gone.values())


def _digest(shape: bytes, picture: Tensor) -> bytes:
    content = picture.detach().contiguous().cpu().view(torch.uint8).numpy()
    return hashlib.blake2b(shape + content.tobytes(), digest_size=16).digest()
