"""Pre-training of the embedded model: to see, to speak about what it sees, to know of more than it sees.

Stage 1 trains vision tower and projector alone. Linear heads, thrown away afterwards, read each patch of the
projector's output: colour, shape, size and place of the thing in it, which sign of an invented alphabet is written
there, and the patch's pixels (of rectangles too): later arrivals find an eye that sees more than the five shapes.

Stage 2 trains everything on conversations made of the ideas of `datasets.primitives`, with the loss on answer tokens. A
part of the turns repeats words drawn from the whole vocabulary: no word is foreign to the mouth.

Stage 3 gives the language model what a language model brings to a real LLaVA: it knows of tasks that it has never seen
a picture of. Half of its conversations are the arrivals' questions about pictures told in words; the others are
primitives, invented signs with arbitrary names, coloured columns, and one picture after another. Without it, a round of
LoRA training is too short to teach a form of answer. No question of an arrival is ever asked about a picture here, no
handwriting or chart is shown, no two pictures stand at one question, and the language-only skills of the arrivals do
not occur.
"""

import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration, LlavaProcessor, PreTrainedTokenizerFast

from adapt_infinity.embedded.datasets import primitives
from adapt_infinity.embedded.ideas import Idea, Item
from adapt_infinity.embedded.model import (
    ASSISTANT,
    END,
    IMAGE,
    IMAGE_TOKENS,
    MEAN,
    PAD,
    SPREAD,
    USER,
    build_model,
    build_processor,
    round_weights,
    train_tokenizer,
)
from adapt_infinity.embedded.scenes import (
    CELL,
    COLOURS,
    GRID,
    SHAPES,
    SIDE,
    SIZES,
    Chart,
    Handwriting,
    Picture,
    Scene,
    digits,
    draw_scene,
    render,
)
from adapt_infinity.embedded.stream import ARRIVALS, SKILLS, EmbeddedStreamParams, dataset_module, make_stream

IGNORED = -100
SIGNS = 64  # of the invented alphabet
ASKED = tuple(skill for skill in primitives.SKILLS if skill != "echo")
PICTURELESS = ("echo", "backwards", "table")
TOLD = (  # asked in words in stage 3; the harder ones more often
    *(skill for skill in SKILLS if skill not in PICTURELESS),
    *("grounding", "grounding", "relation", "sentence", "zh_shape"),
)
LEVELS = ("village", "flower", "garden", "winter", "bridge", "island")  # arbitrary words for six heights


@dataclass(frozen=True, kw_only=True)
class EmbeddedModelParams:
    """params:embedded_model."""

    seed: int = 0
    vocabulary: int = 900
    seeing_steps: int = 600  # stage 1, 64 pictures each
    seeing_lr: float = 2e-3
    steps: int = 2400  # stage 2
    batch: int = 32  # conversations a step
    turns: int = 6  # questions a conversation
    echo: float = 0.2  # share of conversations that begin by repeating words
    lr: float = 1.5e-3
    vision_lr: float = 0.2  # of lr
    talking_steps: int = 1000  # stage 3
    talking_lr: float = 1e-3
    talk: float = 0.5  # share of conversations of stage 3 about pictures told in words
    warmup: int = 100  # steps
    weight_decay: float = 0.05

    def __post_init__(self) -> None:
        for name in ("vocabulary", "batch", "turns"):
            if getattr(self, name) < 1:
                raise ValueError(f"embedded_model.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("seeing_steps", "steps", "warmup", "seeing_lr", "lr", "vision_lr", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"embedded_model.{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.echo <= 1:
            raise ValueError(f"embedded_model.echo must lie in [0, 1], got {self.echo}")


# ---------------------------------------------------------------------------------------------------------------
# Inputs, without the processor's cost and with its result
# ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """Inputs of the model, padded on the right; labels are ignored outside answers."""

    input_ids: Int[Tensor, "batch time"]
    attention_mask: Int[Tensor, "batch time"]
    labels: Int[Tensor, "batch time"]
    pixel_values: Float[Tensor, "pictures 3 36 36"] | None


@dataclass(frozen=True)
class Turn:
    """A question, the number of pictures before it, and the answer."""

    question: str
    answer: str
    pictures: int = 0


Conversation = tuple[list[Turn], list[UInt8[np.ndarray, "36 36 3"]]]  # pictures of all turns in order


class Encoder:
    """Text to ids, each text only once."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Reads the special tokens' ids off the tokenizer."""
        self.tokenizer = tokenizer
        self.known: dict[str, list[int]] = {}
        self.pad, self.end, self.user, self.assistant, self.image = (
            int(tokenizer.vocab[token]) for token in (PAD, END, USER, ASSISTANT, IMAGE)
        )

    def text(self, text: str) -> list[int]:
        """Ids of a text without special tokens."""
        if text not in self.known:
            if len(self.known) > 200_000:
                self.known.clear()
            self.known[text] = self.tokenizer.encode(text, add_special_tokens=False)
        return self.known[text]

    def conversation(self, turns: list[Turn]) -> tuple[list[int], list[bool]]:
        """Ids of a conversation as the chat template writes it, and which of them are answer tokens."""
        ids: list[int] = []
        answers: list[bool] = []
        for turn in turns:
            asked = [
                self.user,
                *[self.image] * (IMAGE_TOKENS * turn.pictures),
                *self.text(turn.question),
                self.assistant,
            ]
            answered = [*self.text(turn.answer), self.end]
            ids += asked + answered
            answers += [False] * len(asked) + [True] * len(answered)
        return ids, answers


def pixel_values(pixels: UInt8[np.ndarray, "pictures 36 36 3"]) -> Float[Tensor, "pictures 3 36 36"]:
    """What the processor makes of pictures of the model's own size, but for the last bit of a float32."""
    scaled = pixels.astype(np.float32) * np.float32(1 / 255)
    normal = (scaled - np.float32(MEAN)) / np.float32(SPREAD)
    return torch.from_numpy(np.ascontiguousarray(normal.transpose(0, 3, 1, 2)))


def collate(conversations: list[list[Turn]], pictures: list[UInt8[np.ndarray, "36 36 3"]], encoder: Encoder) -> Batch:
    """Conversations as one batch; `pictures` of all of them in order."""
    encoded = [encoder.conversation(turns) for turns in conversations]
    shape = (len(encoded), max(len(ids) for ids, _ in encoded))
    input_ids = np.full(shape, encoder.pad)
    attention = np.zeros(shape, dtype=np.int64)
    labels = np.full(shape, IGNORED)
    for row, (ids, answers) in enumerate(encoded):
        input_ids[row, : len(ids)] = ids
        attention[row, : len(ids)] = 1
        labels[row, : len(ids)] = np.where(answers, ids, IGNORED)
    return Batch(
        torch.from_numpy(input_ids),
        torch.from_numpy(attention),
        torch.from_numpy(labels),
        pixel_values(np.stack(pictures)) if pictures else None,
    )


def item_turns(item: Item) -> list[Turn]:
    """An item's turns, the pictures before the first question."""
    return [
        Turn(question, answer, len(item.pixels) if number == 0 else 0)
        for number, (question, answer) in enumerate(item.turns)
    ]


# ---------------------------------------------------------------------------------------------------------------
# Stage 1: seeing
# ---------------------------------------------------------------------------------------------------------------


def blocks_picture(rng: np.random.Generator) -> UInt8[np.ndarray, "36 36 3"]:
    """Rectangles of any size, anywhere."""
    canvas = np.empty((SIDE, SIDE, 3))
    canvas[:] = rng.uniform(195, 250) + rng.uniform(-8, 8, 3)
    for _ in range(int(rng.integers(1, 5))):
        top, left = rng.integers(0, SIDE - 3, 2)
        height, width = rng.integers(3, SIDE, 2)
        colour = np.array(list(COLOURS.values())[int(rng.integers(len(COLOURS)))])
        canvas[top : top + height, left : left + width] = colour + rng.uniform(-15, 15, 3)
    return canvas.clip(0, 255).astype(np.uint8)


def invent_signs(rng: np.random.Generator) -> list[Float[np.ndarray, "_ 2"]]:
    """An alphabet that nobody writes: corners of a pen's way, each within a patch."""
    return [rng.uniform(2, CELL - 3, (int(rng.integers(3, 7)), 2)) for _ in range(SIGNS)]


def signs_picture(
    alphabet: list[Float[np.ndarray, "_ 2"]],
    rng: np.random.Generator,
    cells: tuple[int, ...] = tuple(range(GRID**2)),
) -> tuple[UInt8[np.ndarray, "36 36 3"], Int[np.ndarray, " 9"]]:
    """A sign in each of the cells, each written by an unsteady hand; and which sign it is."""
    canvas = np.empty((SIDE, SIDE, 3))
    canvas[:] = rng.uniform(195, 250) + rng.uniform(-8, 8, 3)
    y, x = np.mgrid[:CELL, :CELL]
    which = rng.integers(0, SIGNS, GRID**2)
    for cell, sign in enumerate(which):
        if cell not in cells:
            continue
        corners = alphabet[int(sign)] + rng.normal(0, 0.7, alphabet[int(sign)].shape) + rng.normal(0, 0.3, 2)
        thickness = rng.uniform(1.2, 1.8)
        ink = np.zeros((CELL, CELL))
        for (y0, x0), (y1, x1) in pairwise(corners):
            along = ((y - y0) * (y1 - y0) + (x - x0) * (x1 - x0)) / max((y1 - y0) ** 2 + (x1 - x0) ** 2, 1e-6)
            along = along.clip(0, 1)
            distance = np.hypot(y - y0 - along * (y1 - y0), x - x0 - along * (x1 - x0))
            ink = np.maximum(ink, (thickness - distance).clip(0, 1))
        top, left = CELL * (cell // GRID), CELL * (cell % GRID)
        canvas[top : top + CELL, left : left + CELL] *= 1 - 0.9 * ink[..., None]
    return canvas.clip(0, 255).astype(np.uint8), which


def patch_labels(scene: Scene) -> Int[np.ndarray, "9 3"]:
    """Colour, shape and size in each patch; 0 where there is nothing."""
    labels = np.zeros((GRID**2, 3), dtype=np.int64)
    for thing in scene.things:
        labels[thing.cell] = (
            1 + list(COLOURS).index(thing.colour),
            1 + SHAPES.index(thing.shape),
            1 + list(SIZES).index(thing.size),
        )
    return labels


def patch_pixels(pixels: Float[Tensor, "pictures 3 36 36"]) -> Float[Tensor, "pictures 9 252"]:
    """Each patch: its brightness at full resolution, and its colours at half of it."""

    def blocks(image: Tensor, side: int) -> Tensor:
        cut = image.unfold(2, side, side).unfold(3, side, side)  # pictures, channels, rows, columns, side, side
        return cut.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)

    bright = blocks(pixels.mean(dim=1, keepdim=True), CELL)
    return torch.cat([bright, blocks(nn.functional.avg_pool2d(pixels, 2), CELL // 2)], dim=-1)


def learn_to_see(model: LlavaForConditionalGeneration, params: EmbeddedModelParams) -> dict[str, float]:
    """Stage 1, in place. Returns the share of patches read right by the heads over the last 20 steps."""
    rng = np.random.default_rng([params.seed, 1])
    sizes = {
        "colour": 1 + len(COLOURS),
        "shape": 1 + len(SHAPES),
        "size": 1 + len(SIZES),
        "place": GRID**2,
        "sign": SIGNS,
        "pixels": 252,
    }
    width = model.lm_head.in_features
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(params.seed + 1)
        heads = nn.ModuleDict({name: nn.Linear(width, size) for name, size in sizes.items()})
    eye = nn.ModuleList([model.model.vision_tower, model.model.multi_modal_projector, heads])
    optimiser = torch.optim.AdamW(eye.parameters(), lr=params.seeing_lr, weight_decay=params.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, cosine(params.warmup, params.seeing_steps))
    places = torch.arange(GRID**2).repeat(32)
    alphabet = invent_signs(rng)
    right: list[list[float]] = []
    model.train()
    for step in range(params.seeing_steps):
        scenes = [draw_scene(rng, 1, 6, distinct_colours=False, distinct_shapes=False) for _ in range(32)]
        written = [signs_picture(alphabet, rng) for _ in range(24)]
        pictures = [render(scene, rng) for scene in scenes] + [picture for picture, _ in written]
        pictures += [blocks_picture(rng) for _ in range(8)]
        pixels = pixel_values(np.stack(pictures))
        labels = torch.from_numpy(np.concatenate([patch_labels(scene) for scene in scenes]))
        seen = model.model.vision_tower(pixels).last_hidden_state[:, 1:]
        patches = model.model.multi_modal_projector(seen)
        known = patches[:32].flatten(0, 1)
        loss = torch.zeros(())
        hits = []
        for name, target in (*zip(("colour", "shape", "size"), labels.T, strict=True), ("place", places)):
            logits = heads[name](known)
            loss = loss + nn.functional.cross_entropy(logits, target)
            hits.append((logits.argmax(-1) == target).float().mean().item())
        signs = torch.from_numpy(np.concatenate([which for _, which in written]))
        logits = heads["sign"](patches[32:56].flatten(0, 1))
        loss = loss + nn.functional.cross_entropy(logits, signs)
        hits.append((logits.argmax(-1) == signs).float().mean().item())
        loss = loss + 20 * nn.functional.mse_loss(heads["pixels"](patches), patch_pixels(pixels))
        loss.backward()
        nn.utils.clip_grad_norm_(eye.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad(set_to_none=True)
        if step >= params.seeing_steps - 20:
            right.append(hits)
    model.eval()
    names = ("colour", "shape", "size", "place", "sign")
    return (
        {f"patch_{name}": float(value) for name, value in zip(names, np.mean(right, axis=0), strict=True)}
        if right
        else {}
    )


# ---------------------------------------------------------------------------------------------------------------
# Stage 2: speaking
# ---------------------------------------------------------------------------------------------------------------


def cosine(warmup: int, steps: int) -> Callable[[int], float]:
    """Warm up linearly, then fall to zero along a cosine."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + float(np.cos(np.pi * (step - warmup) / max(1, steps - warmup))))

    return factor


def echo_turn(words: list[str], rng: np.random.Generator) -> Turn:
    """Repeat up to six words out of the whole vocabulary, or three common ones."""
    if rng.random() < 0.3:
        idea = primitives.draw("echo", "train", rng)
        wordings = idea.asks[0].wordings
        return Turn(wordings[int(rng.integers(len(wordings)))], idea.asks[0].answer)
    said = "".join(words[int(n)] for n in rng.integers(0, len(words), int(rng.integers(2, 7)))).strip()
    asked = ("Repeat: ", "Say again: ", "Say after me: ")[int(rng.integers(3))]
    return Turn(asked + said, said)


def draw_conversation(params: EmbeddedModelParams, words: list[str], rng: np.random.Generator) -> Conversation:
    """Turns about one picture, sometimes after (or without it, only) repeating words."""
    turns: list[Turn] = []
    if rng.random() < params.echo:
        turns += [echo_turn(words, rng) for _ in range(int(rng.integers(1, 4)))]
        if rng.random() < 0.4:
            return turns, []
    scene = draw_scene(rng, 1, 4 if rng.random() < 0.8 else 5)
    skills = [ASKED[int(n)] for n in rng.integers(0, len(ASKED), params.turns)]
    for number, skill in enumerate(skills):
        if skill == "list" and len(scene.things) > 3:
            skill = "at_place"
        ask = primitives.ask(skill, scene, rng)
        question = ask.wordings[int(rng.integers(len(ask.wordings)))]
        turns.append(Turn(question, ask.answer, 1 if number == 0 else 0))
    return turns, [render(scene, rng)]


def vocabulary_words(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The tokens that are text by themselves."""
    special = set(tokenizer.all_special_ids)
    words = [str(tokenizer.decode([token])) for token in range(len(tokenizer)) if token not in special]
    return [word for word in words if "�" not in word and word.isprintable()]


def answer_loss(model: LlavaForConditionalGeneration, batch: Batch) -> Float[Tensor, ""]:
    """Mean cross-entropy over answer tokens; the vocabulary is only looked at where an answer is."""
    hidden = model.model(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask, pixel_values=batch.pixel_values, use_cache=False
    ).last_hidden_state
    targets = batch.labels[:, 1:]
    answer: Bool[Tensor, "batch time"] = targets != IGNORED
    return nn.functional.cross_entropy(model.lm_head(hidden[:, :-1][answer]), targets[answer])


def in_words(picture: Picture) -> str:
    """What is in a picture, for who cannot see it."""
    match picture:
        case Scene(things):
            return ", ".join(f"{thing.size} {thing.name} {thing.place}" for thing in things)
        case Chart(colours, heights):
            return "bar " + ", ".join(f"{colour} {height}" for colour, height in zip(colours, heights, strict=True))
        case Handwriting(rows):
            return "digit " + " ".join(str(digits()[1][row]) for row in rows)


def draw_told(rng: np.random.Generator) -> list[Turn]:
    """Questions of the arrivals about pictures told in words."""
    turns = []
    for _ in range(3):
        skill = TOLD[int(rng.integers(len(TOLD)))]
        idea: Idea = dataset_module(SKILLS[skill].dataset).draw(skill, "train", rng)
        told = "; ".join(in_words(picture) for picture in idea.pictures)
        ask = idea.asks[0]
        turns.append(Turn(f"{told}. {ask.wordings[int(rng.integers(len(ask.wordings)))]}", ask.answer))
    return turns


def draw_signs(params: EmbeddedModelParams, words: list[str], rng: np.random.Generator) -> Conversation:
    """Invented signs, each with an arbitrary word for its name."""
    alphabet = invent_signs(np.random.default_rng([params.seed, 1]))  # stage 1's
    name = [words[(7 * sign) % len(words)].strip() for sign in range(SIGNS)]
    turns, pictures = [], []
    for _ in range(params.turns // 2):
        cells = tuple(range(3, 3 + int(rng.integers(1, 4)))) if rng.random() < 0.5 else (4,)
        picture, which = signs_picture(alphabet, rng, cells)
        question = "Read the sign." if len(cells) == 1 else "Read the signs."
        turns.append(Turn(question, " ".join(name[which[cell]] for cell in cells), 1))
        pictures.append(picture)
    return turns, pictures


def draw_columns(params: EmbeddedModelParams, rng: np.random.Generator) -> Conversation:
    """Single columns of colour, and how much of the picture's height they fill, in words."""
    turns, pictures = [], []
    for _ in range(params.turns // 2):
        canvas = np.empty((SIDE, SIDE, 3))
        canvas[:] = rng.uniform(195, 250) + rng.uniform(-8, 8, 3)
        chosen = [str(colour) for colour in rng.choice(list(COLOURS), int(rng.integers(1, 4)), replace=False)]
        height = [int(value) for value in rng.integers(3, SIDE, len(chosen))]
        for place, colour in zip(rng.permutation(GRID), range(len(chosen)), strict=False):
            left = CELL * int(place) + int(rng.integers(0, 4))
            tint = np.array(COLOURS[chosen[colour]]) + rng.uniform(-15, 15, 3)
            canvas[SIDE - height[colour] :, left : left + 8] = tint
        which = int(rng.integers(len(chosen)))
        turns.append(Turn(f"How big is the {chosen[which]} block?", LEVELS[height[which] * len(LEVELS) // SIDE], 1))
        pictures.append(canvas.clip(0, 255).astype(np.uint8))
    return turns, pictures


def draw_talk(params: EmbeddedModelParams, words: list[str], rng: np.random.Generator) -> Conversation:
    """Stage 3's mixture."""
    kind = rng.random()
    if kind < params.talk:
        return draw_told(rng), []
    if kind < params.talk + 0.2:
        return draw_signs(params, words, rng)
    if kind < params.talk + 0.26:
        return draw_columns(params, rng)
    if kind < params.talk + 0.32:  # one picture after another, the first colour by colour
        turns, pictures = [], []
        for _ in range(3):
            scene = draw_scene(rng, 2, 4)
            pictures.append(render(scene, rng))
            for number in range(2):
                ask = primitives.ask("colour", scene, rng)
                question = ask.wordings[int(rng.integers(len(ask.wordings)))]
                turns.append(Turn(question, ask.answer, 1 if number == 0 else 0))
        return turns, pictures
    return draw_conversation(params, words, rng)


def learn(
    model: LlavaForConditionalGeneration,
    encoder: Encoder,
    params: EmbeddedModelParams,
    draw: Callable[..., Conversation],
    stage: int,
    steps: int,
    lr: float,
) -> Iterator[tuple[int, float]]:
    """Stage 2 or 3, in place, on what `draw` gives; yields the step and its loss."""
    rng = np.random.default_rng([params.seed, stage])
    words = vocabulary_words(encoder.tokenizer)
    vision = list(model.model.vision_tower.parameters())
    rest = [*model.model.multi_modal_projector.parameters(), *model.model.language_model.parameters()]
    rest += list(model.lm_head.parameters())
    groups = [{"params": vision, "lr": lr * params.vision_lr}, {"params": rest, "lr": lr}]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=params.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, cosine(params.warmup, steps))
    waiting: list[list[Conversation]] = []
    for step in range(steps):
        model.train()
        if not waiting:  # eight batches at once, so that each holds conversations of about one length
            drawn = [draw(params, words, rng) for _ in range(8 * params.batch)]
            drawn.sort(key=lambda conversation: len(encoder.conversation(conversation[0])[0]))
            parts = [drawn[start : start + params.batch] for start in range(0, len(drawn), params.batch)]
            waiting = [parts[int(n)] for n in rng.permutation(len(parts))]
        part = waiting.pop()
        batch = collate([turns for turns, _ in part], [picture for _, seen in part for picture in seen], encoder)
        loss = answer_loss(model, batch)
        loss.backward()
        nn.utils.clip_grad_norm_([*vision, *rest], 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad(set_to_none=True)
        model.eval()
        yield step, loss.item()


def learn_to_speak(
    model: LlavaForConditionalGeneration, encoder: Encoder, params: EmbeddedModelParams
) -> Iterator[tuple[int, float]]:
    """Stage 2, in place; yields the step and its loss."""
    yield from learn(model, encoder, params, draw_conversation, 2, params.steps, params.lr)


def learn_to_talk(
    model: LlavaForConditionalGeneration, encoder: Encoder, params: EmbeddedModelParams
) -> Iterator[tuple[int, float]]:
    """Stage 3, in place; yields the step and its loss."""
    yield from learn(model, encoder, params, draw_talk, 3, params.talking_steps, params.talking_lr)


# ---------------------------------------------------------------------------------------------------------------
# What it can do
# ---------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def answers(
    model: LlavaForConditionalGeneration, encoder: Encoder, items: list[Item], batch: int = 100, longest: int = 64
) -> list[str]:
    """Greedy answers to each item's last question, given the earlier turns."""
    model.eval()
    said: list[str] = [""] * len(items)
    order = sorted(range(len(items)), key=lambda n: (items[n].skill, len(items[n].turns)))
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        prompts = [encoder.conversation(item_turns(items[n])) for n in part]
        cut = []
        for ids, is_answer in prompts:
            end = len(ids)
            while is_answer[end - 1]:
                end -= 1
            cut.append(ids[:end])
        width = max(map(len, cut))
        input_ids = torch.tensor([[encoder.pad] * (width - len(ids)) + ids for ids in cut])
        attention = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in cut])
        pictures = [pixels for n in part for pixels in items[n].pixels]
        inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention}
        if pictures:
            inputs["pixel_values"] = pixel_values(np.stack(pictures))
        out = model.generate(**inputs, max_new_tokens=longest, do_sample=False)  # type: ignore[misc]
        for n, text in zip(part, encoder.tokenizer.batch_decode(out[:, width:], skip_special_tokens=True), strict=True):
            said[n] = text
    return said


def agrees(answer: str, reference: str) -> float:
    """1 where both are the same words, whatever their case and punctuation."""
    strip = str.maketrans("", "", string.punctuation)
    return float(answer.casefold().translate(strip).split() == reference.casefold().translate(strip).split())


def measure(
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    items: list[Item],
    graders: dict[str, Callable[[str, str], float]] | None = None,
) -> dict[str, float]:
    """Mean score a skill, by the skill's grader in `graders` (skill → function) or else by `agrees`."""
    graders = graders or {}
    scores: dict[str, list[float]] = {}
    for item, said in zip(items, answers(model, Encoder(processor.tokenizer), items), strict=True):
        scores.setdefault(item.skill, []).append(graders.get(item.skill, agrees)(said, item.turns[-1][1]))
    return {skill: float(np.mean(values)) for skill, values in scores.items()}


def pretrain(
    params: EmbeddedModelParams, stream: EmbeddedStreamParams
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor, dict[str, float]]:
    """Model, processor, and figures: what the heads read off the patches, and exact answers on `design` by skill."""
    splits = dict(make_stream(stream))
    texts = [
        text for made in splits.values() for sample in made["train"] for turn in sample.item.turns for text in turn
    ]
    tokenizer = train_tokenizer(texts, params.vocabulary)
    processor = build_processor(tokenizer)
    model = build_model(tokenizer, params.seed)
    figures = learn_to_see(model, params)
    for learning in (learn_to_speak, learn_to_talk):
        for _ in learning(model, Encoder(tokenizer), params):
            pass
    round_weights(model)
    items = [sample.item for name in ("primitives", *ARRIVALS) for sample in splits[name]["design"]]
    return model, processor, figures | measure(model, processor, items)
