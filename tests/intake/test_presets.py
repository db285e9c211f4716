"""Presets: each is complete, its options fit its format, and files in the published layout are read."""

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf

from adapt_infinity.benchmarks import graders
from adapt_infinity.intake import formats, presets
from tests.conftest import PROJECT
from tests.intake.formats.examples import DOT64, EXAMPLES

KEYS = {
    *("name", "format", "options", "test_options", "train", "test", "pictures", "join", "duplicate_ids", "graders"),
    *("limit", "expected"),
}


@pytest.mark.parametrize("name", presets.names())
def test_a_preset_has_all_its_entries(name: str) -> None:
    preset = presets.load(name)
    assert set(preset) == {"about", "download", "licence", "layout", "source", "expected", "cite"}
    assert all(isinstance(preset[key], str) and preset[key] for key in ("about", "licence", "layout", "cite"))
    assert preset["download"]
    assert all(isinstance(line, str) and "http" in line for line in preset["download"])
    assert set(preset["expected"]) <= {"train", "test", "note"}
    assert all(isinstance(preset["expected"][split], int) for split in preset["expected"] if split != "note")
    assert "unconfirmed" not in str(preset["layout"])


@pytest.mark.parametrize("name", presets.names())
def test_the_source_entry_of_a_preset_is_valid(name: str) -> None:
    source = presets.source(name)
    assert source["name"] == name
    assert set(source) <= KEYS
    assert source["format"] in formats.names()
    for options in ("options", "test_options"):
        formats.load(source["format"], source.get(options))
    assert set(source.get("test_options", source.get("options", {}))) >= set(source.get("options", {})) - {"split"}
    assert set(source["graders"].values()) <= set(graders.names())
    assert bool(source["graders"]) == ("test" in source), "exactly the sources with test items have graders"
    assert {split for split in ("train", "test") if split in source} == set(source["expected"]) - {"note"}
    assert source.get("duplicate_ids", "reject") in ("reject", "number")
    named = [source, source["join"]] if "join" in source else [source]
    for file in [one[split] for one in named for split in ("train", "test") if split in one]:
        assert not Path(file).is_absolute()
        assert file in presets.load(name)["layout"], f"the layout does not say where {file} goes"


def test_overrides_replace_keys_of_the_source_entry() -> None:
    source = presets.source("gqa", {"train": "", "limit": 5})
    assert source == {**presets.source("gqa"), "train": "", "limit": 5}
    assert presets.source("gqa")["train"] == "gqa/train_balanced_questions.json"
    assert presets.source("gqa")["expected"]["train"] == 943000


def test_an_unknown_preset_and_wrong_overrides_are_refused() -> None:
    with pytest.raises(ValueError, match=r"there is no preset 'gaq'; known: flickr30k, gqa, .*vqav2"):
        presets.source("gaq")
    with pytest.raises(ValueError, match="the overrides of preset 'gqa' must be keys and values, got 'test'"):
        presets.source("gqa", "test")


@pytest.fixture
def resolver() -> Iterator[None]:
    OmegaConf.register_new_resolver("preset", presets.source, replace=True)
    yield
    OmegaConf.clear_resolver("preset")


STREAMS = {
    "paper": ["llava_665k", "m3it", "minigpt4_stage2", "mantis", "lamm", "vision_flan"],
    "cit_b1": ["flickr30k", "textcaps", "vqav2", "ocr_vqa", "gqa"],
    "cit_b2": ["flickr30k", "vizwiz", "textvqa", "gqa"],
}


@pytest.mark.usefixtures("resolver")
@pytest.mark.parametrize("env", sorted(STREAMS))
def test_streams_that_consist_of_presets(env: str) -> None:
    stream: Any = OmegaConf.to_container(OmegaConf.load(PROJECT / f"conf/{env}/globals.yml"), resolve=True)
    assert stream["stream"] == env
    assert [source["name"] for source in stream["sources"] if source["train"]] == STREAMS[env]
    skills = [skill for source in stream["sources"] for skill in source["graders"]]
    assert skills
    assert len(skills) == len(set(skills))


# Below: the files of each preset in its published layout, and the numbers of samples for training and testing.

QUESTION = {"question_id": 458752000, "image_id": 458752, "question": "What is this?"}
ROW = {"image_base64_str": [DOT64], "instruction": "Say.", "inputs": "", "outputs": "A bus."}


def example(format: str) -> dict[str, Any]:
    return EXAMPLES[format][0]


def keyed(format: str) -> dict[str, Any]:
    record = example(format)
    return {record["key"]: record["value"]}


FILES: dict[str, dict[str, Any]] = {
    "llava_665k": {"llava_665k/llava_v1_5_mix665k.json": [example("llava"), example("llava")]},
    "m3it": {"m3it/train/captioning/coco.jsonl": [ROW], "m3it/train/vqa.parquet": [ROW]},
    "minigpt4_stage2": {"minigpt4/filter_cap.json": {"annotations": [example("minigpt4")]}},
    "mantis": {"mantis/train/nlvr2/train-00000-of-00001.parquet": [example("mantis")]},
    "lamm": {"lamm/2D_Instruct/meta_file/LAMM_instruct_186k.json": [example("lamm")]},
    "vision_flan": {"vision_flan/annotation_191-task_1k.json": [example("vision_flan")]},
    "flickr30k": {
        "flickr30k/dataset_flickr30k.json": {
            "images": [example("flickr30k"), {**example("flickr30k"), "split": "test"}],
            "dataset": "flickr30k",
        }
    },
    "textcaps": {
        "textcaps/TextCaps_0.1_train.json": {"dataset_type": "train", "data": [example("textcaps")] * 2},
        "textcaps/TextCaps_0.1_val.json": {
            "data": [example("textcaps"), {**example("textcaps"), "caption_id": 20, "caption_str": "A bottle."}]
        },
    },
    "vqav2": {
        "vqav2/v2_mscoco_train2014_annotations.json": {"annotations": [example("vqav2")], "data_type": "mscoco"},
        "vqav2/v2_mscoco_val2014_annotations.json": {"annotations": [example("vqav2")]},
        "vqav2/v2_OpenEnded_mscoco_train2014_questions.json": {"questions": [QUESTION]},
        "vqav2/v2_OpenEnded_mscoco_val2014_questions.json": {"questions": [QUESTION]},
    },
    "ocr_vqa": {"ocr_vqa/dataset.json": {**keyed("ocr_vqa"), "0456": {**example("ocr_vqa")["value"], "split": 3}}},
    "gqa": {"gqa/train_balanced_questions.json": keyed("gqa"), "gqa/testdev_balanced_questions.json": keyed("gqa")},
    "vizwiz": {"vizwiz/train.json": [example("vizwiz")], "vizwiz/val.json": [example("vizwiz")]},
    "textvqa": {
        "textvqa/TextVQA_0.5.1_train.json": {"dataset_version": "0.5.1", "data": [example("textvqa")]},
        "textvqa/TextVQA_0.5.1_val.json": {"data": [example("textvqa")]},
    },
}
COUNTS = {
    **dict.fromkeys(("minigpt4_stage2", "mantis", "lamm", "vision_flan"), (1, 0)),
    **dict.fromkeys(("vqav2", "gqa", "vizwiz", "textvqa"), (1, 1)),
    **{"llava_665k": (2, 0), "m3it": (2, 0), "flickr30k": (2, 1), "textcaps": (2, 1), "ocr_vqa": (2, 2)},
}


def records(path: Path, list_key: str = "", by_key: bool = False) -> list[Any]:
    """The raw records of a file, or of all files in a folder, read into memory at once."""
    if path.is_dir():
        return [one for file in sorted(path.rglob("*.*")) for one in records(file)]
    if path.suffix == ".parquet":
        rows: list[Any] = pq.read_table(path).to_pylist()
        return rows
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    content = json.loads(path.read_text())
    if by_key:
        return [{"key": key, "value": value} for key, value in content.items()]
    return list(content[list_key] if list_key else content)


@pytest.mark.parametrize("name", presets.names())
def test_files_in_the_published_layout(name: str, tmp_path: Path) -> None:
    for file, content in FILES[name].items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        if file.endswith(".parquet"):
            pq.write_table(pa.Table.from_pylist(content), tmp_path / file)
        elif file.endswith(".jsonl"):
            (tmp_path / file).write_text("".join(json.dumps(row) + "\n" for row in content))
        else:
            (tmp_path / file).write_text(json.dumps(content))
    source = presets.source(name)
    module = formats.module(source["format"])
    found: dict[str, list[formats.Conversation]] = {"train": [], "test": []}
    for split in [split for split in found if source.get(split)]:
        options = source.get("test_options", source.get("options")) if split == "test" else source.get("options")
        parse = formats.load(source["format"], options)
        raw = records(
            tmp_path / source[split], getattr(module, "LIST_KEY", ""), getattr(module, "RECORDS_BY_KEY", False)
        )
        if "join" in source:
            join = source["join"]
            partners = {one[join["by"]]: one for one in records(tmp_path / join[split], join["under"])}
            raw = [{**partners[one[join["by"]]], **one} for one in raw]
        for record in raw:
            one = parse(record)
            found[split] += one if isinstance(one, list) else [one]
    assert (len(found["train"]), len(found["test"])) == COUNTS[name]
    for conversation in found["train"] + found["test"]:
        shown = sum(turn["text"].count("<image>") for turn in conversation.turns)
        assert shown == len(conversation.images) > 0
    if name in ("vqav2", "vizwiz"):
        assert {image.split("/")[0][:3] for one in found["test"] for image in map(str, one.images)} == {"val"}


def test_the_documentation_lists_every_preset_format_and_option() -> None:
    page = (PROJECT / "docs/intake.md").read_text()
    rows: dict[str, dict[str, str]] = {}
    for title in ("Presets", "Formats"):
        lines = page.split(f"## {title}\n")[1].split("\n## ")[0].splitlines()
        rows[title] = {line.split("`")[1]: line for line in lines if line.startswith("| `")}
    assert sorted(rows["Presets"]) == presets.names()
    assert sorted(rows["Formats"]) == formats.names()
    for name, row in rows["Presets"].items():
        counts = [count for key, count in presets.load(name)["expected"].items() if key != "note"]
        assert [count for count in counts if f"{count:,}" not in row] == [], name
    for name, row in rows["Formats"].items():
        options = list(inspect.signature(formats.module(name).parse).parameters)[1:]
        assert [option for option in options if f"`{option}`" not in row] == [], name
