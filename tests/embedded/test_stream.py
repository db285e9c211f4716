"""The embedded stream: determinism, disjoint splits, and the documented shares."""

import importlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adapt_infinity.embedded.sample_specs import render_item
from adapt_infinity.embedded.stream import (
    ARRIVALS,
    BASE,
    SKILLS,
    SPLITS,
    EmbeddedStreamParams,
    StreamSample,
    counts,
    dataset_module,
    make_stream,
    own_skills,
    picture_key,
    recurring_skills,
    write_stream,
)

SMALL = EmbeddedStreamParams(seed=3, train_size=60, design_size=4, test_size=5)
DATASETS = (BASE, *ARRIVALS)


@pytest.fixture(scope="module")
def stream() -> dict[str, dict[str, list[StreamSample]]]:
    """The stream of default size, in memory."""
    return dict(make_stream(EmbeddedStreamParams()))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small stream on disk."""
    root = tmp_path_factory.mktemp("stream")
    write_stream(root, SMALL)
    return root


def test_same_seed_same_bytes(written: Path, tmp_path: Path) -> None:
    """The same seed writes the same bytes, also over an older stream in the same folder."""
    write_stream(tmp_path, EmbeddedStreamParams(seed=4, train_size=61, design_size=1, test_size=1))
    write_stream(tmp_path, SMALL)
    files = {path.relative_to(written): path.read_bytes() for path in written.rglob("*") if path.is_file()}
    again = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == again


def test_another_seed_other_pictures() -> None:
    """Two seeds have no training picture in common."""
    other = EmbeddedStreamParams(seed=4, train_size=60, design_size=4, test_size=5)
    for (_, one), (_, two) in zip(make_stream(SMALL), make_stream(other), strict=True):
        shared = {picture_key(s.item) for s in one["train"]} & {picture_key(s.item) for s in two["train"]}
        assert not shared


def test_record_format(written: Path) -> None:
    """Ids are unique, every picture exists, and there is one `<image>` per picture."""
    ids: list[str] = []
    for name in DATASETS:
        for split in SPLITS:
            for record in json.loads((written / name / f"{split}.json").read_text(encoding="utf-8")):
                ids.append(record["id"])
                images = record.get("image", [])
                images = [images] if isinstance(images, str) else images
                text = "".join(turn["value"] for turn in record["conversations"])
                assert text.count("<image>") == len(images)
                assert [turn["from"] for turn in record["conversations"]][:2] == ["human", "gpt"]
                assert record["task"] in SKILLS
                for image in images:
                    with Image.open(written / image) as picture:
                        assert picture.size == (36, 36)
                        assert picture.mode == "RGB"
    assert len(ids) == len(set(ids))


def test_datasets_json(written: Path) -> None:
    """`datasets.json` has the order of the arrivals, all skills and the sizes."""
    index = json.loads((written / "datasets.json").read_text(encoding="utf-8"))
    assert index["order"] == list(ARRIVALS)
    assert index["skills"].keys() == SKILLS.keys()
    assert index["datasets"]["charts"]["train"] == counts("charts", 60)
    assert not list(written.glob(".*"))


def test_splits_share_nothing(stream: dict[str, dict[str, list[StreamSample]]]) -> None:
    """No picture and no language-only question of any dataset is in two splits."""
    keys: dict[str, set[str]] = {split: set() for split in SPLITS}
    for splits in stream.values():
        for split, samples in splits.items():
            for sample in samples:
                keys[split] |= {pixels.tobytes().hex() for pixels in sample.item.pixels}
                if not sample.item.pixels:
                    keys[split].add(sample.item.turns[0][0])
    assert not keys["train"] & keys["test"]
    assert not keys["train"] & keys["design"]
    assert not keys["design"] & keys["test"]


def test_language_only_answers_differ_between_splits(stream: dict[str, dict[str, list[StreamSample]]]) -> None:
    """A held-out language-only sample is not a training sample in another wording: its answer is new."""
    answers: dict[str, set[tuple[str, str]]] = {split: set() for split in SPLITS}
    for splits in stream.values():
        for split, samples in splits.items():
            text_only = [sample.item for sample in samples if not sample.item.pixels]
            answers[split] |= {(item.skill, item.turns[0][1]) for item in text_only}
    assert {skill for skill, _ in answers["test"]} == {"echo", "translate", "table"}
    assert not answers["train"] & answers["test"]
    assert not answers["train"] & answers["design"]


def test_splits_share_no_handwriting() -> None:
    """Every image of a digit is in one split only."""
    digits = dataset_module("digits")
    rows = {
        split: {
            row
            for skill in digits.SKILLS
            for draw in range(100)
            for row in digits.draw(skill, split, np.random.default_rng(draw)).pictures[0].rows
        }
        for split in SPLITS
    }
    assert not rows["train"] & rows["test"]
    assert not rows["train"] & rows["design"]
    assert not rows["design"] & rows["test"]


@pytest.mark.parametrize("name", DATASETS)
def test_shares(name: str, stream: dict[str, dict[str, list[StreamSample]]]) -> None:
    """Training samples per skill are as `counts` says; each skill that the dataset introduces has held-out samples."""
    size = EmbeddedStreamParams().train_size
    seen = Counter(sample.item.skill for sample in stream[name]["train"])
    assert seen == counts(name, size)
    assert sum(seen.values()) == size
    for skill in [skill for skill, row in own_skills(name).items() if row.rare]:
        assert 0.02 <= seen[skill] / size <= 0.05
    for skill in recurring_skills(name):
        assert 0.01 <= seen[skill] / size <= 0.05
    assert Counter(sample.item.skill for sample in stream[name]["test"]) == dict.fromkeys(own_skills(name), 100)
    assert Counter(sample.item.skill for sample in stream[name]["design"]) == dict.fromkeys(own_skills(name), 60)


@pytest.mark.parametrize("name", DATASETS)
def test_redundancy(name: str, stream: dict[str, dict[str, list[StreamSample]]]) -> None:
    """35 % of each common skill are near-duplicates: the same answers, with other pixels or another wording."""
    train = {sample.name: sample for sample in stream[name]["train"]}
    repeats = [sample for sample in train.values() if sample.near_duplicate_of is not None]
    common = {skill for skill, row in own_skills(name).items() if not row.rare}
    for skill, size in counts(name, len(train)).items():
        repeated = sum(sample.item.skill == skill for sample in repeats)
        assert repeated == (round(0.35 * size) if skill in common else 0)
    for sample in repeats:
        first = train[str(sample.near_duplicate_of)]
        assert [answer for _, answer in first.item.turns] == [answer for _, answer in sample.item.turns]
        assert (picture_key(first.item), first.item.turns) != (picture_key(sample.item), sample.item.turns)
    asked = Counter(sample.near_duplicate_of for sample in repeats)
    assert max(asked.values()) >= 3  # some samples are repeated often


def test_all_kinds_of_sample_occur(stream: dict[str, dict[str, list[StreamSample]]]) -> None:
    """There are samples with one, two and no pictures, and with one and several turns."""
    kinds = {
        (len(sample.item.pixels), len(sample.item.turns)) for splits in stream.values() for sample in splits["train"]
    }
    assert kinds >= {(1, 1), (0, 1), (2, 1), (1, 2)}


@pytest.mark.parametrize("skill", SKILLS)
def test_reference_answers_grade_one(skill: str) -> None:
    """The skill's grader gives the reference answer the score 1."""
    row = SKILLS[skill]
    try:
        grader = importlib.import_module(f"adapt_infinity.benchmarks.graders.{row.grader}")
    except ModuleNotFoundError:
        pytest.skip(f"no grader {row.grader} here")
    rng = np.random.default_rng(0)
    for _ in range(50):
        item = render_item(skill, dataset_module(row.dataset).draw(skill, "train", rng), 0, rng)
        assert grader.grade(item.turns[-1][1], item.turns[-1][1]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("key", "value"), [("train_size", 0), ("design_size", 0), ("test_size", -1), ("redundancy", 1.0)]
)
def test_bad_parameters_are_named(key: str, value: float) -> None:
    """The message names the YAML key and the value."""
    with pytest.raises(ValueError, match=rf"embedded_stream\.{key} .*{value}"):
        EmbeddedStreamParams(**{key: value})  # type: ignore[arg-type]
