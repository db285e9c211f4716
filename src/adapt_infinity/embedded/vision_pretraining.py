"""Stage 1 of pre-training: train the vision tower and the projector with supervision on each patch.

Linear heads predict from each patch of the projector's output the colour, shape, size and place of the shape in it, the
glyph of an invented alphabet that is written there, and the patch's pixels. The heads are discarded afterwards. Glyphs
and rectangles make the tower represent more than the five shapes, which later arrivals need.
"""

from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration

from adapt_infinity.embedded.encoding import pixel_values
from adapt_infinity.embedded.recipe import EmbeddedModelParams, cosine
from adapt_infinity.embedded.scenes import (
    CELL,
    COLOURS,
    GRID,
    SHAPES,
    SIDE,
    SIZES,
    Scene,
    draw_background,
    draw_scene,
    render,
)

GLYPHS = 256  # of the invented alphabet


def draw_rectangles_picture(rng: np.random.Generator) -> UInt8[np.ndarray, "36 36 3"]:
    """Draw a picture of one to four coloured rectangles of any size."""
    canvas = draw_background(rng)
    for _ in range(int(rng.integers(1, 5))):
        top, left = rng.integers(0, SIDE - 3, 2)
        height, width = rng.integers(3, SIDE, 2)
        colour = np.array(list(COLOURS.values())[int(rng.integers(len(COLOURS)))])
        canvas[top : top + height, left : left + width] = colour + rng.uniform(-15, 15, 3)
    return canvas.clip(0, 255).astype(np.uint8)


def invent_glyphs(rng: np.random.Generator) -> list[Float[np.ndarray, "_ 2"]]:
    """Invent an alphabet: each glyph is a line through 3 to 6 points (y, x) within a patch, in pixels."""
    return [rng.uniform(2, CELL - 3, (int(rng.integers(3, 7)), 2)) for _ in range(GLYPHS)]


def draw_glyphs_picture(
    alphabet: list[Float[np.ndarray, "_ 2"]],
    rng: np.random.Generator,
    cells: tuple[int, ...] = tuple(range(GRID**2)),
) -> tuple[UInt8[np.ndarray, "36 36 3"], Int[np.ndarray, " 9"]]:
    """Draw a picture with a distorted glyph in each of `cells`; also return the index of the glyph of each cell."""
    canvas = draw_background(rng)
    y, x = np.mgrid[:CELL, :CELL]
    which = rng.integers(0, len(alphabet), GRID**2)
    for cell, glyph in enumerate(which):
        if cell not in cells:
            continue
        points = alphabet[int(glyph)] + rng.normal(0, 0.7, alphabet[int(glyph)].shape) + rng.normal(0, 0.3, 2)
        thickness = rng.uniform(1.2, 1.8)
        ink = np.zeros((CELL, CELL))
        for (y0, x0), (y1, x1) in pairwise(points):
            along = ((y - y0) * (y1 - y0) + (x - x0) * (x1 - x0)) / max((y1 - y0) ** 2 + (x1 - x0) ** 2, 1e-6)
            along = along.clip(0, 1)
            distance = np.hypot(y - y0 - along * (y1 - y0), x - x0 - along * (x1 - x0))
            ink = np.maximum(ink, (thickness - distance).clip(0, 1))
        top, left = CELL * (cell // GRID), CELL * (cell % GRID)
        canvas[top : top + CELL, left : left + CELL] *= 1 - 0.9 * ink[..., None]
    return canvas.clip(0, 255).astype(np.uint8), which


def patch_labels(scene: Scene) -> Int[np.ndarray, "9 3"]:
    """The index of the colour, the shape and the size in each patch, from 1; 0 in an empty patch."""
    labels = np.zeros((GRID**2, 3), dtype=np.int64)
    for thing in scene.things:
        labels[thing.cell] = (
            1 + list(COLOURS).index(thing.colour),
            1 + SHAPES.index(thing.shape),
            1 + list(SIZES).index(thing.size),
        )
    return labels


def patch_pixels(pixels: Float[Tensor, "pictures 3 36 36"]) -> Float[Tensor, "pictures 9 252"]:
    """Targets of the pixel head: each patch's brightness at full resolution, and its colours at half resolution."""

    def patches(image: Tensor, side: int) -> Tensor:
        cut = image.unfold(2, side, side).unfold(3, side, side)  # pictures, channels, rows, columns, side, side
        return cut.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)

    bright = patches(pixels.mean(dim=1, keepdim=True), CELL)
    return torch.cat([bright, patches(nn.functional.avg_pool2d(pixels, 2), CELL // 2)], dim=-1)


def pretrain_vision(model: LlavaForConditionalGeneration, params: EmbeddedModelParams) -> dict[str, float]:
    """Stage 1, in place. Returns each head's accuracy over the last 20 steps; {} if there are no steps."""
    rng = np.random.default_rng([params.seed, 1])
    sizes = {
        "colour": 1 + len(COLOURS),
        "shape": 1 + len(SHAPES),
        "size": 1 + len(SIZES),
        "place": GRID**2,
        "glyph": GLYPHS,
        "pixels": 252,
    }
    width = model.lm_head.in_features
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(params.seed + 1)
        heads = nn.ModuleDict({name: nn.Linear(width, size) for name, size in sizes.items()})
    trained = nn.ModuleList([model.model.vision_tower, model.model.multi_modal_projector, heads])
    optimizer = torch.optim.AdamW(trained.parameters(), lr=params.stage_1_lr, weight_decay=params.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, cosine(params.warmup, params.stage_1_steps))
    places = torch.arange(GRID**2).repeat(32)
    alphabet = invent_glyphs(rng)
    accuracies: list[list[float]] = []
    model.train()
    for step in range(params.stage_1_steps):
        scenes = [draw_scene(rng, 1, 6, distinct_colours=False, distinct_shapes=False) for _ in range(32)]
        glyph_pictures = [draw_glyphs_picture(alphabet, rng) for _ in range(24)]
        pictures = [render(scene, rng) for scene in scenes] + [picture for picture, _ in glyph_pictures]
        pictures += [draw_rectangles_picture(rng) for _ in range(8)]
        pixels = pixel_values(np.stack(pictures))
        labels = torch.from_numpy(np.concatenate([patch_labels(scene) for scene in scenes]))
        seen = model.model.vision_tower(pixels).last_hidden_state[:, 1:]
        patches = model.model.multi_modal_projector(seen)
        shapes = patches[:32].flatten(0, 1)
        loss = torch.zeros(())
        hits = []
        for name, target in (*zip(("colour", "shape", "size"), labels.T, strict=True), ("place", places)):
            logits = heads[name](shapes)
            loss = loss + nn.functional.cross_entropy(logits, target)
            hits.append((logits.argmax(-1) == target).float().mean().item())
        glyphs = torch.from_numpy(np.concatenate([which for _, which in glyph_pictures]))
        logits = heads["glyph"](patches[32:56].flatten(0, 1))
        loss = loss + nn.functional.cross_entropy(logits, glyphs)
        hits.append((logits.argmax(-1) == glyphs).float().mean().item())
        loss = loss + 20 * nn.functional.mse_loss(heads["pixels"](patches), patch_pixels(pixels))
        loss.backward()
        nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if step >= params.stage_1_steps - 20:
            accuracies.append(hits)
    model.eval()
    names = ("colour", "shape", "size", "place", "glyph")
    return (
        {f"patch_{name}": float(value) for name, value in zip(names, np.mean(accuracies, axis=0), strict=True)}
        if accuracies
        else {}
    )
