"""Stages 2 to 4 of pre-training: train the whole model on conversations, with the loss on answer tokens only.

Stage 2: questions of `datasets.primitives` about pictures. Some turns ask the model to repeat words drawn from the
whole vocabulary, so that it can produce every token.

Stage 3: gives the small language model some of what the language model of a real LLaVA already knows. Half of the
conversations are questions of the arrivals about pictures that are described in words. The others are primitives,
invented glyphs with arbitrary names, coloured columns, and several pictures in a row. Without this stage, a round of
LoRA training is too short to teach a new form of answer. In this stage no question of an arrival is asked about a
picture, no handwriting or chart is shown, no question has two pictures, and the language-only skills of the arrivals
do not occur. The names of the glyphs are arbitrary words and, for ten of them, digits: the model learns to say digits.

Stage 4: the primitives again, more often those with low scores after stage 3, mixed with stage 3.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from adapt_infinity.data.sample import IGNORED_LABEL
from adapt_infinity.embedded.datasets import primitives
from adapt_infinity.embedded.encoding import Batch, Conversation, Encoder, Turn, collate
from adapt_infinity.embedded.recipe import EmbeddedModelParams, cosine
from adapt_infinity.embedded.sample_specs import SampleSpec, draw_wording
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
    draw_background,
    draw_scene,
    render,
)
from adapt_infinity.embedded.stream import SKILLS, dataset_module
from adapt_infinity.embedded.vision_pretraining import draw_glyphs_picture, invent_glyphs

STAGE_2_SKILLS = (  # the harder ones more often
    *(skill for skill in primitives.SKILLS if skill != "echo"),
    *("colour", "colour", "colour", "place"),
)
STAGE_4_SKILLS = (  # those with low scores after stage 3 more often
    *(skill for skill in primitives.SKILLS if skill != "echo"),
    *("size", "size", "size", "at_place", "at_place"),
)
TEXT_ONLY_SKILLS = ("echo", "translate", "table")
DESCRIBED_SKILLS = (  # of stage 3, about pictures described in words; the harder ones more often
    *(skill for skill in SKILLS if skill not in TEXT_ONLY_SKILLS),
    *("grounding", "grounding", "relation", "sentence", "zh_shape"),
)
NAMED_GLYPHS = 64  # the first glyphs of stage 1's alphabet get a name
HEIGHT_WORDS = ("village", "flower", "garden", "winter", "bridge", "island")  # arbitrary names of six heights


def echo_turn(words: list[str], rng: np.random.Generator) -> Turn:
    """Draw a turn that asks to repeat two to six tokens of the whole vocabulary, or three common words."""
    if rng.random() < 0.3:
        spec = primitives.draw("echo", "train", rng)
        return Turn(draw_wording(spec.questions[0], rng), spec.questions[0].answer)
    text = "".join(words[int(n)] for n in rng.integers(0, len(words), int(rng.integers(2, 7)))).strip()
    request = ("Repeat: ", "Say again: ", "Say after me: ")[int(rng.integers(3))]
    return Turn(request + text, text)


def draw_conversation(
    params: EmbeddedModelParams, words: list[str], rng: np.random.Generator, among: tuple[str, ...] = STAGE_2_SKILLS
) -> Conversation:
    """Draw a conversation about one picture, with skills of `among`; words to repeat may precede or replace it."""
    turns: list[Turn] = []
    if rng.random() < params.echo:
        turns += [echo_turn(words, rng) for _ in range(int(rng.integers(1, 4)))]
        if rng.random() < 0.4:
            return turns, []
    scene = draw_scene(rng, 1, 4 if rng.random() < 0.8 else 5)
    skills = [among[int(n)] for n in rng.integers(0, len(among), params.turns)]
    for number, skill in enumerate(skills):
        if skill == "list" and len(scene.things) > 3:
            skill = "at_place"
        question = primitives.ask_question(skill, scene, rng)
        turns.append(Turn(draw_wording(question, rng), question.answer, 1 if number == 0 else 0))
    return turns, [render(scene, rng)]


def vocabulary_words(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The tokens that decode to printable text on their own."""
    special = set(tokenizer.all_special_ids)
    words = [str(tokenizer.decode([token])) for token in range(len(tokenizer)) if token not in special]
    return [word for word in words if "�" not in word and word.isprintable()]


def answer_loss(model: LlavaForConditionalGeneration, batch: Batch) -> Float[Tensor, ""]:
    """Mean cross-entropy over answer tokens; logits are computed only at their positions."""
    hidden = model.model(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask, pixel_values=batch.pixel_values, use_cache=False
    ).last_hidden_state
    targets = batch.labels[:, 1:]
    is_answer: Bool[Tensor, "batch time"] = targets != IGNORED_LABEL
    return nn.functional.cross_entropy(model.lm_head(hidden[:, :-1][is_answer]), targets[is_answer])


def describe_picture(picture: Picture) -> str:
    """Describe a picture in words, such as "large red circle top left"."""
    match picture:
        case Scene(things):
            return ", ".join(f"{thing.size} {thing.name} {thing.place}" for thing in things)
        case Chart(colours, heights):
            return "bar " + ", ".join(f"{colour} {height}" for colour, height in zip(colours, heights, strict=True))
        case Handwriting(rows):
            return "digit " + " ".join(str(digits()[1][row]) for row in rows)


def draw_described(rng: np.random.Generator) -> list[Turn]:
    """Draw three questions of the arrivals, each after a description of its pictures in words."""
    turns = []
    for _ in range(3):
        skill = DESCRIBED_SKILLS[int(rng.integers(len(DESCRIBED_SKILLS)))]
        spec: SampleSpec = dataset_module(SKILLS[skill].dataset).draw(skill, "train", rng)
        description = "; ".join(describe_picture(picture) for picture in spec.pictures)
        question = spec.questions[0]
        turns.append(Turn(f"{description}. {draw_wording(question, rng)}", question.answer))
    return turns


def draw_glyphs(params: EmbeddedModelParams, words: list[str], rng: np.random.Generator) -> Conversation:
    """Draw questions that ask for the names of invented glyphs; each name is a digit or an arbitrary word."""
    alphabet = invent_glyphs(np.random.default_rng([params.seed, 1]))  # the same as in stage 1
    names = [str(glyph) if glyph < 10 else words[(7 * glyph) % len(words)].strip() for glyph in range(NAMED_GLYPHS)]
    turns, pictures = [], []
    for _ in range(params.turns // 2):
        cells = tuple(range(3, 3 + int(rng.integers(1, 4)))) if rng.random() < 0.5 else (4,)
        picture, which = draw_glyphs_picture(alphabet[:NAMED_GLYPHS], rng, cells)
        question = "Read the sign." if len(cells) == 1 else "Read the signs."
        turns.append(Turn(question, " ".join(names[which[cell]] for cell in cells), 1))
        pictures.append(picture)
    return turns, pictures


def draw_columns(params: EmbeddedModelParams, rng: np.random.Generator) -> Conversation:
    """Draw questions about the height of a coloured column; answers are arbitrary words for six heights."""
    turns, pictures = [], []
    for _ in range(params.turns // 2):
        canvas = draw_background(rng)
        chosen = [str(colour) for colour in rng.choice(list(COLOURS), int(rng.integers(1, 4)), replace=False)]
        height = [int(value) for value in rng.integers(3, SIDE, len(chosen))]
        for place, colour in zip(rng.permutation(GRID), range(len(chosen)), strict=False):
            left = CELL * int(place) + int(rng.integers(0, 4))
            tint = np.array(COLOURS[chosen[colour]]) + rng.uniform(-15, 15, 3)
            canvas[SIDE - height[colour] :, left : left + 8] = tint
        which = int(rng.integers(len(chosen)))
        turns.append(
            Turn(f"How big is the {chosen[which]} block?", HEIGHT_WORDS[height[which] * len(HEIGHT_WORDS) // SIDE], 1)
        )
        pictures.append(canvas.clip(0, 255).astype(np.uint8))
    return turns, pictures


def draw_stage_3(params: EmbeddedModelParams, words: list[str], rng: np.random.Generator) -> Conversation:
    """Draw a conversation of stage 3."""
    kind = rng.random()
    if kind < params.described:
        return draw_described(rng), []
    if kind < params.described + 0.2:
        return draw_glyphs(params, words, rng)
    if kind < params.described + 0.26:
        return draw_columns(params, rng)
    if kind < params.described + 0.32:  # three pictures in a row, each with two questions about colours
        turns, pictures = [], []
        for _ in range(3):
            scene = draw_scene(rng, 2, 4)
            pictures.append(render(scene, rng))
            for number in range(2):
                question = primitives.ask_question("colour", scene, rng)
                turns.append(Turn(draw_wording(question, rng), question.answer, 1 if number == 0 else 0))
        return turns, pictures
    return draw_conversation(params, words, rng)


def draw_stage_4(params: EmbeddedModelParams, words: list[str], rng: np.random.Generator) -> Conversation:
    """Draw a conversation of stage 4: primitives, or (with probability 0.4) stage 3, so that it is not forgotten."""
    if rng.random() < 0.4:
        return draw_stage_3(params, words, rng)
    return draw_conversation(params, words, rng, STAGE_4_SKILLS)


def train_stage(
    model: LlavaForConditionalGeneration,
    encoder: Encoder,
    params: EmbeddedModelParams,
    draw: Callable[..., Conversation],
    stage: int,
    steps: int,
    lr: float,
) -> Iterator[tuple[int, float]]:
    """Train `model` in place on conversations drawn by `draw`; yield the number and the loss of each step."""
    rng = np.random.default_rng([params.seed, stage])
    words = vocabulary_words(encoder.tokenizer)
    vision = list(model.model.vision_tower.parameters())
    rest = [*model.model.multi_modal_projector.parameters(), *model.model.language_model.parameters()]
    rest += list(model.lm_head.parameters())
    groups = [{"params": vision, "lr": lr * params.vision_lr}, {"params": rest, "lr": lr}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=params.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, cosine(params.warmup, steps))
    batches: list[list[Conversation]] = []
    for step in range(steps):
        model.train()
        if not batches:  # draw eight batches at once, so that each holds conversations of similar length
            drawn = [draw(params, words, rng) for _ in range(8 * params.batch)]
            drawn.sort(key=lambda conversation: len(encoder.conversation(conversation[0])[0]))
            chunks = [drawn[start : start + params.batch] for start in range(0, len(drawn), params.batch)]
            batches = [chunks[int(n)] for n in rng.permutation(len(chunks))]
        chunk = batches.pop()
        batch = collate([turns for turns, _ in chunk], [one for _, pictures in chunk for one in pictures], encoder)
        loss = answer_loss(model, batch)
        loss.backward()
        nn.utils.clip_grad_norm_([*vision, *rest], 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        model.eval()
        yield step, loss.item()


def train_on_primitives(
    model: LlavaForConditionalGeneration, encoder: Encoder, params: EmbeddedModelParams
) -> Iterator[tuple[int, float]]:
    """Stage 2, in place; yield the number and the loss of each step."""
    yield from train_stage(model, encoder, params, draw_conversation, 2, params.stage_2_steps, params.stage_2_lr)


def train_on_descriptions(
    model: LlavaForConditionalGeneration, encoder: Encoder, params: EmbeddedModelParams
) -> Iterator[tuple[int, float]]:
    """Stage 3, in place; yield the number and the loss of each step."""
    yield from train_stage(model, encoder, params, draw_stage_3, 3, params.stage_3_steps, params.stage_3_lr)


def train_on_weak_skills(
    model: LlavaForConditionalGeneration, encoder: Encoder, params: EmbeddedModelParams
) -> Iterator[tuple[int, float]]:
    """Stage 4, in place; yield the number and the loss of each step."""
    yield from train_stage(model, encoder, params, draw_stage_4, 4, params.stage_4_steps, params.stage_4_lr)
