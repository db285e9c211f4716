"""Stages 2 to 4 of pre-training: to speak about what it sees, to know of more than it sees, and to practise.

Stage 2 trains everything on conversations made of the ideas of `datasets.primitives`, with the loss on answer tokens. A
part of the turns repeats words drawn from the whole vocabulary: no word is foreign to the mouth.

Stage 3 gives the language model what a language model brings to a real LLaVA: it knows of tasks that it has never seen
a picture of. Half of its conversations are the arrivals' questions about pictures told in words; the others are
primitives, invented signs with arbitrary names, coloured columns, and one picture after another. Without it, a round of
LoRA training is too short to teach a form of answer. No question of an arrival is ever asked about a picture here, no
handwriting or chart is shown, no two pictures stand at one question, and the language-only skills of the arrivals do
not occur. The names of the invented signs are arbitrary words, ten of them figures: to say a figure is nothing new.

Stage 4 practises the primitives that came short, and holds on to stage 3 meanwhile.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from adapt_infinity.embedded.datasets import primitives
from adapt_infinity.embedded.encoding import IGNORED, Batch, Conversation, Encoder, Turn, collate
from adapt_infinity.embedded.recipe import EmbeddedModelParams, cosine
from adapt_infinity.embedded.sample_specs import Idea
from adapt_infinity.embedded.scenes import (
    CELL,
    COLOURS,
    GRID,
    SIDE,
    Chart,
    Handwriting,
    Picture,
    Scene,
    digits,
    draw_scene,
    render,
)
from adapt_infinity.embedded.stream import SKILLS, dataset_module
from adapt_infinity.embedded.vision_pretraining import invent_signs, signs_picture

ASKED = (  # the harder ones more often
    *(skill for skill in primitives.SKILLS if skill != "echo"),
    *("colour", "colour", "colour", "place"),
)
PRACTISED = (  # of stage 4: what came short in the stages before
    *(skill for skill in primitives.SKILLS if skill != "echo"),
    *("size", "size", "size", "at_place", "at_place"),
)
PICTURELESS = ("echo", "translate", "table")
TOLD = (  # asked in words in stage 3; the harder ones more often
    *(skill for skill in SKILLS if skill not in PICTURELESS),
    *("grounding", "grounding", "relation", "sentence", "zh_shape"),
)
NAMED = 64  # signs of stage 1's alphabet that get a name
LEVELS = ("village", "flower", "garden", "winter", "bridge", "island")  # arbitrary words for six heights


def echo_turn(words: list[str], rng: np.random.Generator) -> Turn:
    """Repeat up to six words out of the whole vocabulary, or three common ones."""
    if rng.random() < 0.3:
        idea = primitives.draw("echo", "train", rng)
        wordings = idea.asks[0].wordings
        return Turn(wordings[int(rng.integers(len(wordings)))], idea.asks[0].answer)
    said = "".join(words[int(n)] for n in rng.integers(0, len(words), int(rng.integers(2, 7)))).strip()
    asked = ("Repeat: ", "Say again: ", "Say after me: ")[int(rng.integers(3))]
    return Turn(asked + said, said)


def draw_conversation(
    params: EmbeddedModelParams, words: list[str], rng: np.random.Generator, asked: tuple[str, ...] = ASKED
) -> Conversation:
    """Turns about one picture, sometimes after (or without it, only) repeating words."""
    turns: list[Turn] = []
    if rng.random() < params.echo:
        turns += [echo_turn(words, rng) for _ in range(int(rng.integers(1, 4)))]
        if rng.random() < 0.4:
            return turns, []
    scene = draw_scene(rng, 1, 4 if rng.random() < 0.8 else 5)
    skills = [asked[int(n)] for n in rng.integers(0, len(asked), params.turns)]
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
    name = [str(sign) if sign < 10 else words[(7 * sign) % len(words)].strip() for sign in range(NAMED)]
    turns, pictures = [], []
    for _ in range(params.turns // 2):
        cells = tuple(range(3, 3 + int(rng.integers(1, 4)))) if rng.random() < 0.5 else (4,)
        picture, which = signs_picture(alphabet[:NAMED], rng, cells)
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


def draw_practice(params: EmbeddedModelParams, words: list[str], rng: np.random.Generator) -> Conversation:
    """Stage 4's mixture: primitives, and stage 3's so that it is not forgotten."""
    if rng.random() < 0.4:
        return draw_talk(params, words, rng)
    return draw_conversation(params, words, rng, PRACTISED)


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


def learn_to_practise(
    model: LlavaForConditionalGeneration, encoder: Encoder, params: EmbeddedModelParams
) -> Iterator[tuple[int, float]]:
    """Stage 4, in place; yields the step and its loss."""
    yield from learn(model, encoder, params, draw_practice, 4, params.practising_steps, params.practising_lr)
