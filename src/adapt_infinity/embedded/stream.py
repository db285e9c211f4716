"""The embedded stream: a base dataset and five arrivals in the LLaVA format, generated from a seed in a few seconds.

Every arrival brings new skills with very different shares; some are rare, and some skills of earlier datasets recur:

| arrival     | skills (share of its training samples)                        | rare        | recurring               |
|-------------|---------------------------------------------------------------|-------------|-------------------------|
| visual_chat | grounding .50, detail .22, sentence .18                       | region      | colour, exists, list    |
| languages   | zh_colour .32, zh_shape .24, translate .18, zh_list .16       | zh_count    | count, place            |
| digits      | digit .40, two_digits .28, digit_choice .22                   | digit_count | grounding, list         |
| charts      | bar_value .42, highest_bar .26, table .22                     | trend       | zh_colour, detail, size |
| comparisons | pair_second .28, pair_list .26, relation .22, most_common .14 | pair_count  | digit, zh_shape, shape  |

`translate` and `table` have no picture, `pair_second`, `pair_list` and `pair_count` have two.

Rare skills have a share of .04, recurring ones of .02 or .03. The base dataset, `primitives`, has the skills colour,
shape, size, count, place, exists, at_place, list and echo; the embedded model is pre-trained on samples of it.

Redundancy: a share `redundancy` of the training samples of each skill that is neither rare nor recurring are
near-duplicates of an earlier sample: the same content in other pixels and, every other time, in another wording. Their
records have the key `near_duplicate_of`. The probability that a sample is repeated falls as 1 / rank.

Each skill has three splits with seeds of their own: `train`, `design` for decisions during development, and `test` for
published tables only. No picture, no handwritten digit and no language-only question is in two splits.
"""

import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Lt
from PIL import Image

from adapt_infinity.embedded.sample_specs import Item, SampleSpec, Skill, render_item
from adapt_infinity.parameters import PositiveInt, Seed, check

BASE = "primitives"
ARRIVALS = ("visual_chat", "languages", "digits", "charts", "comparisons")
SPLITS = (
    "test",
    "design",
    "train",
)  # in the order in which they are generated; a later split avoids the questions of earlier ones


@dataclass(frozen=True, kw_only=True)
class EmbeddedStreamParams:
    """params:embedded_stream."""

    SECTION: ClassVar[str] = "embedded_stream"

    seed: Seed = 0
    train_size: PositiveInt = 1100  # samples per dataset
    design_size: PositiveInt = 60  # samples per skill
    test_size: PositiveInt = 100  # samples per skill
    # share of near-duplicates among the training samples of skills that are neither rare nor recurring
    redundancy: Annotated[float, Ge(0), Lt(1)] = 0.35

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class StreamSample:
    """A sample of the stream: its name, its item and, for a near-duplicate, the name of the sample that it repeats."""

    name: str
    item: Item
    near_duplicate_of: str | None


@dataclass(frozen=True)
class SkillInfo:
    """The dataset, the grader and the description of a skill."""

    dataset: str
    grader: str
    rare: bool
    about: str


def dataset_module(name: str) -> ModuleType:
    """The module of one dataset of `embedded/datasets`."""
    return import_module(f"adapt_infinity.embedded.datasets.{name}")


def own_skills(name: str) -> dict[str, Skill]:
    """The skills that a dataset introduces."""
    skills: dict[str, Skill] = dataset_module(name).SKILLS
    return skills


def recurring_skills(name: str) -> dict[str, float]:
    """The skills of earlier datasets that recur in a dataset, with their shares."""
    shares: dict[str, float] = getattr(dataset_module(name), "RECURRING", {})
    return shares


SKILLS: dict[str, SkillInfo] = {
    skill: SkillInfo(name, row.grader, row.rare, row.about)
    for name in (BASE, *ARRIVALS)
    for skill, row in own_skills(name).items()
}


def picture_key(item: Item) -> str:
    """Identifies what two splits must not share: a hash of the pixels or, without pictures, the question."""
    if item.pixels:
        return hashlib.sha256(b"".join(pixels.tobytes() for pixels in item.pixels)).hexdigest()
    return item.turns[0][0]


def counts(name: str, size: int) -> dict[str, int]:
    """The number of training samples per skill; they add up to `size` (largest-remainder method)."""
    shares = {skill: row.share for skill, row in own_skills(name).items()} | recurring_skills(name)
    exact = {skill: share / sum(shares.values()) * size for skill, share in shares.items()}
    whole = {skill: int(value) for skill, value in exact.items()}
    for skill in sorted(exact, key=lambda skill: whole[skill] - exact[skill])[: size - sum(whole.values())]:
        whole[skill] += 1
    return whole


def draw_unused(name: str, skill: str, split: str, used: set[str], rng: np.random.Generator) -> SampleSpec:
    """Draw a sample spec; without pictures, its question is not in `used`, to which it is added.

    ValueError if 1,000 draws give no new question.
    """
    for _ in range(1000):
        spec: SampleSpec = dataset_module(name).draw(skill, split, rng)
        if spec.pictures:
            return spec
        text = spec.questions[0].answer + spec.questions[0].wordings[0]
        if text not in used:
            used.add(text)
            return spec
    raise ValueError(f"embedded_stream: too few different questions for {skill}; lower the sizes")


def training_items(
    name: str, skill: str, size: int, redundancy: float, used: set[str], rng: np.random.Generator
) -> list[tuple[Item, int | None]]:
    """Training items of one skill, each with the position of the item that it nearly duplicates, or None."""
    fresh = size - round(redundancy * size)
    specs = [draw_unused(name, skill, "train", used, rng) for _ in range(fresh)]
    wordings = [int(wording) for wording in rng.integers(0, 3, fresh)]
    items: list[tuple[Item, int | None]] = [
        (render_item(skill, spec, wording, rng), None) for spec, wording in zip(specs, wordings, strict=True)
    ]
    weights = 1 / np.arange(1, fresh + 1)
    seen = {(picture_key(item), item.turns) for item, _ in items}
    while len(items) < size:
        original = int(rng.choice(fresh, p=weights / weights.sum()))
        other_wording = len(items) % 2 == 1 or not specs[original].pictures
        item = render_item(skill, specs[original], wordings[original] + other_wording, rng)
        if (picture_key(item), item.turns) not in seen:
            seen.add((picture_key(item), item.turns))
            items.append((item, original))
        else:
            weights[original] = 0  # all wordings of this language-only sample occur already
    return items


def make_dataset(name: str, params: EmbeddedStreamParams, used: set[str]) -> dict[str, list[StreamSample]]:
    """The three splits of a dataset; language-only questions of `used` do not occur, and new ones are added to it."""
    index = (BASE, *ARRIVALS).index(name)
    splits: dict[str, list[StreamSample]] = {}
    for number, split in enumerate(SPLITS):
        rng = np.random.default_rng([params.seed, index, number])
        drawn: list[tuple[Item, int | None]] = []
        if split == "train":
            for skill, size in counts(name, params.train_size).items():
                common = skill in own_skills(name) and not own_skills(name)[skill].rare
                share = params.redundancy if common else 0.0
                items = training_items(name, skill, size, share, used, rng)
                drawn += [(item, None if original is None else original + len(drawn)) for item, original in items]
            order = rng.permutation(len(drawn))
        else:
            for skill in own_skills(name):
                for _ in range(params.test_size if split == "test" else params.design_size):
                    spec = draw_unused(name, skill, split, used, rng)
                    single = SampleSpec(spec.pictures, spec.questions[:1])
                    drawn.append((render_item(skill, single, int(rng.integers(0, 3)), rng), None))
            order = np.arange(len(drawn))
        names = {int(position): f"{name}-{split}-{place:04d}" for place, position in enumerate(order)}
        splits[split] = [
            StreamSample(names[int(n)], drawn[n][0], None if (first := drawn[n][1]) is None else names[first])
            for n in order
        ]
    return splits


def make_stream(params: EmbeddedStreamParams) -> Iterator[tuple[str, dict[str, list[StreamSample]]]]:
    """Generate each dataset's name and splits: the base first, then the arrivals in order."""
    used: set[str] = set()
    for name in (BASE, *ARRIVALS):
        yield name, make_dataset(name, params, used)


def record(sample: StreamSample, images: list[str], source: str) -> dict[str, object]:
    """A sample as a record of the LLaVA format, with one `<image>` per picture before the first question."""
    conversations = []
    for number, (question, answer) in enumerate(sample.item.turns):
        placeholders = "<image>\n" * len(images) if number == 0 else ""
        conversations += [{"from": "human", "value": placeholders + question}, {"from": "gpt", "value": answer}]
    line: dict[str, object] = {"id": sample.name}
    if images:
        line["image"] = images[0] if len(images) == 1 else images
    line |= {"conversations": conversations, "task": sample.item.skill, "source": source}
    if sample.near_duplicate_of is not None:
        line["near_duplicate_of"] = sample.near_duplicate_of
    return line


def describe(params: EmbeddedStreamParams) -> dict[str, object]:
    """The content of `datasets.json`: seed, order, and the skills, graders and sizes of each dataset."""
    return {
        "seed": params.seed,
        "base": BASE,
        "order": list(ARRIVALS),
        "redundancy": params.redundancy,
        "datasets": {
            name: {
                "about": dataset_module(name).ABOUT,
                "train": counts(name, params.train_size),
                "design_per_skill": params.design_size,
                "test_per_skill": params.test_size,
                "skills": list(own_skills(name)),
                "recurring": list(recurring_skills(name)),
            }
            for name in (BASE, *ARRIVALS)
        },
        "skills": {skill: vars(row) for skill, row in SKILLS.items()},
    }


def write_stream(root: Path, params: EmbeddedStreamParams) -> None:
    """Write the stream below `root`: `<dataset>/{train,design,test}.json`, `<dataset>/images/`, `datasets.json`.

    A dataset's folder gets its name only when it is complete, and replaces an older one.
    """
    root.mkdir(parents=True, exist_ok=True)
    for name, splits in make_stream(params):
        unfinished = root / f".{name}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        (unfinished / "images").mkdir(parents=True)
        for split, samples in splits.items():
            lines = []
            for sample in samples:
                images = [f"{name}/images/{sample.name}-{n}.png" for n in range(len(sample.item.pixels))]
                for image, pixels in zip(images, sample.item.pixels, strict=True):
                    encoded = io.BytesIO()
                    Image.fromarray(pixels).save(encoded, format="PNG", compress_level=1)
                    (unfinished / "images" / Path(image).name).write_bytes(encoded.getvalue())
                lines.append(record(sample, images, f"embedded/{name}"))
            text = json.dumps(lines, ensure_ascii=False, indent=1)
            (unfinished / f"{split}.json").write_text(text, encoding="utf-8")
        shutil.rmtree(root / name, ignore_errors=True)
        unfinished.rename(root / name)
    unfinished_index = root / ".datasets.json.unfinished"
    unfinished_index.write_text(json.dumps(describe(params), ensure_ascii=False, indent=1), encoding="utf-8")
    unfinished_index.rename(root / "datasets.json")
