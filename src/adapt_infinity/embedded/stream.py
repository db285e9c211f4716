"""The embedded stream: a base dataset and five arrivals in the LLaVA format, made from a seed in a few seconds.

Every arrival brings skills that the base lacks, in shares that are far from equal; some are rare, and some older
skills come back now and then:

| arrival     | skills (share of its training samples)                        | rare        | recurring               |
|-------------|---------------------------------------------------------------|-------------|-------------------------|
| visual_chat | grounding .50, detail .22, sentence .18                       | region      | colour, exists, list    |
| languages   | zh_colour .32, zh_shape .24, translate .18, zh_list .16       | zh_count    | count, place            |
| digits      | digit .40, two_digits .28, digit_choice .22                   | digit_count | grounding, list         |
| charts      | bar_value .42, highest_bar .26, table .22                     | trend       | zh_colour, detail, size |
| comparisons | pair_second .28, pair_list .26, relation .22, most_common .14 | pair_count  | digit, zh_shape, shape  |

`translate` and `table` have no picture, `pair_second`, `pair_list` and `pair_count` have two.

Rare skills have a share of .04, recurring ones of .02 or .03. The base dataset, `primitives`, teaches colour, shape,
size, count, place, exists, at_place, list and echo; the embedded model is pre-trained on its ideas.

Redundancy: of each skill that is neither rare nor recurring, a share of `redundancy` of the training samples are
near-duplicates: an earlier sample's idea in fresh pixels and, every other time, in other words. They carry
`near_duplicate_of`. Ideas near the front of a dataset are repeated more often (the share falls as 1 / rank).

Three splits a skill, each from its own seeds: `train`, `design` for use while something is designed, `test` for
published tables only. No picture, no digit's handwriting and no language-only question is in two of them.
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

import numpy as np
from PIL import Image

from adapt_infinity.embedded.sample_specs import Idea, Item, Skill, realise

BASE = "primitives"
ARRIVALS = ("visual_chat", "languages", "digits", "charts", "comparisons")
FOLDS = ("test", "design", "train")  # in the order of making: what is taken is taken


@dataclass(frozen=True, kw_only=True)
class EmbeddedStreamParams:
    """params:embedded_stream."""

    seed: int = 0
    train_size: int = 1100  # samples an arrival
    design_size: int = 60  # samples a skill
    test_size: int = 100  # samples a skill
    redundancy: float = 0.35  # share of near-duplicates among the samples of common skills

    def __post_init__(self) -> None:
        for name in ("train_size", "design_size", "test_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"embedded_stream.{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.redundancy < 1:
            raise ValueError(f"embedded_stream.redundancy must lie in [0, 1), got {self.redundancy}")


@dataclass(frozen=True)
class Sample:
    """An item with its name, and the name of the sample it nearly repeats, if it does."""

    name: str
    item: Item
    near_duplicate_of: str | None


@dataclass(frozen=True)
class SkillRow:
    """A row of `SKILLS`."""

    dataset: str
    grader: str
    rare: bool
    about: str


def dataset_module(name: str) -> ModuleType:
    """The file of one dataset."""
    return import_module(f"adapt_infinity.embedded.datasets.{name}")


def owned(name: str) -> dict[str, Skill]:
    """The skills that a dataset owns."""
    skills: dict[str, Skill] = dataset_module(name).SKILLS
    return skills


def recurring(name: str) -> dict[str, float]:
    """Older skills that come back in a dataset, with their shares."""
    shares: dict[str, float] = getattr(dataset_module(name), "RECURRING", {})
    return shares


SKILLS: dict[str, SkillRow] = {
    skill: SkillRow(name, row.grader, row.rare, row.about)
    for name in (BASE, *ARRIVALS)
    for skill, row in owned(name).items()
}


def picture_key(item: Item) -> str:
    """Identifies what a sample may not share across splits: the pixels, or the question where there are none."""
    if item.pixels:
        return hashlib.sha256(b"".join(pixels.tobytes() for pixels in item.pixels)).hexdigest()
    return item.turns[0][0]


def counts(name: str, size: int) -> dict[str, int]:
    """Training samples a skill, adding up to `size` exactly (largest remainders)."""
    shares = {skill: row.share for skill, row in owned(name).items()} | recurring(name)
    exact = {skill: share / sum(shares.values()) * size for skill, share in shares.items()}
    whole = {skill: int(value) for skill, value in exact.items()}
    for skill in sorted(exact, key=lambda skill: whole[skill] - exact[skill])[: size - sum(whole.values())]:
        whole[skill] += 1
    return whole


def draw_fresh(name: str, skill: str, fold: str, taken: set[str], rng: np.random.Generator) -> Idea:
    """An idea whose question is new where there is no picture to tell it from others; entered into `taken`."""
    for _ in range(1000):
        idea: Idea = dataset_module(name).draw(skill, fold, rng)
        if idea.pictures:
            return idea
        if idea.asks[0].answer + idea.asks[0].wordings[0] not in taken:
            taken.add(idea.asks[0].answer + idea.asks[0].wordings[0])
            return idea
    raise ValueError(f"embedded_stream: too few different questions for {skill}; lower the sizes")


def training_items(
    name: str, skill: str, size: int, redundancy: float, taken: set[str], rng: np.random.Generator
) -> list[tuple[Item, int | None]]:
    """Items of one skill; the second entry is the position of the item that is nearly repeated."""
    fresh = size - round(redundancy * size)
    ideas = [draw_fresh(name, skill, "train", taken, rng) for _ in range(fresh)]
    wordings = [int(wording) for wording in rng.integers(0, 3, fresh)]
    items: list[tuple[Item, int | None]] = [
        (realise(skill, idea, wording, rng), None) for idea, wording in zip(ideas, wordings, strict=True)
    ]
    weights = 1 / np.arange(1, fresh + 1)
    seen = {(picture_key(item), item.turns) for item, _ in items}
    while len(items) < size:
        of = int(rng.choice(fresh, p=weights / weights.sum()))
        in_other_words = len(items) % 2 == 1 or not ideas[of].pictures
        item = realise(skill, ideas[of], wordings[of] + in_other_words, rng)
        if (picture_key(item), item.turns) not in seen:
            seen.add((picture_key(item), item.turns))
            items.append((item, of))
        else:
            weights[of] = 0  # a language-only idea whose wordings are used up
    return items


def make_dataset(name: str, params: EmbeddedStreamParams, taken: set[str]) -> dict[str, list[Sample]]:
    """The three splits of a dataset; `taken` holds what earlier splits use and grows."""
    index = (BASE, *ARRIVALS).index(name)
    splits: dict[str, list[Sample]] = {}
    for number, fold in enumerate(FOLDS):
        rng = np.random.default_rng([params.seed, index, number])
        drawn: list[tuple[Item, int | None]] = []
        if fold == "train":
            for skill, size in counts(name, params.train_size).items():
                common = skill in owned(name) and not owned(name)[skill].rare
                share = params.redundancy if common else 0.0
                items = training_items(name, skill, size, share, taken, rng)
                drawn += [(item, None if of is None else of + len(drawn)) for item, of in items]
            order = rng.permutation(len(drawn))
        else:
            for skill in owned(name):
                for _ in range(params.test_size if fold == "test" else params.design_size):
                    idea = draw_fresh(name, skill, fold, taken, rng)
                    asked = Idea(idea.pictures, idea.asks[:1])
                    drawn.append((realise(skill, asked, int(rng.integers(0, 3)), rng), None))
            order = np.arange(len(drawn))
        names = {int(position): f"{name}-{fold}-{place:04d}" for place, position in enumerate(order)}
        splits[fold] = [
            Sample(names[int(n)], drawn[n][0], None if (of := drawn[n][1]) is None else names[of]) for n in order
        ]
    return splits


def make_stream(params: EmbeddedStreamParams) -> Iterator[tuple[str, dict[str, list[Sample]]]]:
    """Each dataset's name and splits, the base first, then the arrivals in order."""
    taken: set[str] = set()
    for name in (BASE, *ARRIVALS):
        yield name, make_dataset(name, params, taken)


def record(sample: Sample, images: list[str], source: str) -> dict[str, object]:
    """A sample as the LLaVA format writes it; as many `<image>` as pictures, before the first question."""
    conversations = []
    for number, (question, answer) in enumerate(sample.item.turns):
        marks = "<image>\n" * len(images) if number == 0 else ""
        conversations += [{"from": "human", "value": marks + question}, {"from": "gpt", "value": answer}]
    line: dict[str, object] = {"id": sample.name}
    if images:
        line["image"] = images[0] if len(images) == 1 else images
    line |= {"conversations": conversations, "task": sample.item.skill, "source": source}
    if sample.near_duplicate_of is not None:
        line["near_duplicate_of"] = sample.near_duplicate_of
    return line


def describe(params: EmbeddedStreamParams) -> dict[str, object]:
    """What `datasets.json` says: order, seed, skills, graders, shares."""
    return {
        "seed": params.seed,
        "base": BASE,
        "order": list(ARRIVALS),
        "redundancy": params.redundancy,
        "datasets": {
            name: {
                "about": (dataset_module(name).__doc__ or "").splitlines()[0],
                "train": counts(name, params.train_size),
                "design_per_skill": params.design_size,
                "test_per_skill": params.test_size,
                "skills": list(owned(name)),
                "recurring": list(recurring(name)),
            }
            for name in (BASE, *ARRIVALS)
        },
        "skills": {skill: vars(row) for skill, row in SKILLS.items()},
    }


def write_stream(root: Path, params: EmbeddedStreamParams) -> None:
    """Write the stream below `root`: `<dataset>/{train,design,test}.json`, `<dataset>/images/`, `datasets.json`.

    A dataset's folder appears under its name when it is complete, and takes the place of an older one.
    """
    root.mkdir(parents=True, exist_ok=True)
    for name, splits in make_stream(params):
        unfinished = root / f".{name}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        (unfinished / "images").mkdir(parents=True)
        for fold, samples in splits.items():
            lines = []
            for sample in samples:
                images = [f"{name}/images/{sample.name}-{n}.png" for n in range(len(sample.item.pixels))]
                for image, pixels in zip(images, sample.item.pixels, strict=True):
                    encoded = io.BytesIO()
                    Image.fromarray(pixels).save(encoded, format="PNG", compress_level=1)
                    (unfinished / "images" / Path(image).name).write_bytes(encoded.getvalue())
                lines.append(record(sample, images, f"embedded/{name}"))
            text = json.dumps(lines, ensure_ascii=False, indent=1)
            (unfinished / f"{fold}.json").write_text(text, encoding="utf-8")
        shutil.rmtree(root / name, ignore_errors=True)
        unfinished.rename(root / name)
    unfinished_index = root / ".datasets.json.unfinished"
    unfinished_index.write_text(json.dumps(describe(params), ensure_ascii=False, indent=1), encoding="utf-8")
    unfinished_index.rename(root / "datasets.json")
