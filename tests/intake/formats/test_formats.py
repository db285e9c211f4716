"""Each format: a record in its published layout, the records that it refuses, and reading back what it exports."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt_infinity.data.sample import IMAGE, Sample, Turn
from adapt_infinity.intake import formats
from adapt_infinity.intake.formats import Conversation
from tests.intake.formats.examples import DOT, DOT64, EXAMPLES, talk


def read(name: str, options: dict[str, Any] | None = None) -> Any:
    return formats.load(name, options)


def parsed(name: str, options: dict[str, Any] | None = None, **changes: Any) -> Any:
    """The conversations in the format's example after some changes to its fields, read with `options`."""
    record = EXAMPLES[name][0]
    if "value" in record and "value" not in changes:
        changes = {"value": {**record["value"], **changes}}
    return read(name, options)({**record, **changes})


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_published_layout(name: str) -> None:
    record, options, expected = EXAMPLES[name]
    found = read(name, options)(record)
    assert (found if isinstance(found, list) else [found]) == expected


def test_where_the_records_of_a_file_are() -> None:
    under = {name: formats.module(name).LIST_KEY for name in EXAMPLES if hasattr(formats.module(name), "LIST_KEY")}
    assert under == {
        "flickr30k": "images",
        "minigpt4": "annotations",
        "textcaps": "data",
        "textvqa": "data",
        "vqav2": "annotations",
    }
    assert [name for name in sorted(EXAMPLES) if getattr(formats.module(name), "RECORDS_BY_KEY", False)] == [
        "gqa",
        "ocr_vqa",
    ]
    assert formats.exporters() == ["chat", "llava", "sharegpt"]


REFUSALS: list[tuple[str, dict[str, Any], str]] = [
    ("m3it", {"image_base64_str": [f"{DOT64[:4]}!{DOT64[4:]}"]}, "a picture is not base64"),
    ("m3it", {"image_base64_str": [""]}, "a picture is empty"),
    ("m3it", {"image_base64_str": 5}, "not text in base64"),
    ("m3it", {"outputs": None}, "no text under 'outputs'"),
    ("minigpt4", {"image_id": ""}, "the record has no 'image_id'"),
    ("minigpt4", {"image_id": float("nan")}, "neither text nor a whole number"),
    ("mantis", {"conversation": []}, "the record has no conversation"),
    ("mantis", {"images": [{"bytes": None, "path": None}]}, "neither a path nor an encoded picture"),
    ("lamm", {"pcl": "3rscan_pcls/a.npy"}, "about a point cloud"),
    ("vision_flan", {"task_name": True}, "'task_name' is neither"),
    ("hugging_face", {"answer": []}, "no answers"),
    ("hugging_face", {"answer": float("nan")}, "no text under 'answer'"),
    ("hugging_face", {"answer": True}, "no text under 'answer'"),
    ("hugging_face", {"answer": "a", "question": None}, "no text under 'question'"),
    ("chat", {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "of type 'input_audio'"),
    ("chat", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "neither a path"),
    ("chat", {"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "has no picture"),
    ("chat", {"messages": [{"role": "user", "content": [{"type": "image", "url": "data:,x"}]}]}, "not in base64"),
    ("chat", {"messages": [{"role": "tool", "content": "4"}]}, "the role 'tool'"),
    ("sharegpt", {"videos": ["a.mp4"]}, "the record has videos"),
    ("sharegpt", {"conversations": [{"from": "function_call", "value": "{}"}]}, "the role 'function_call'"),
    ("vqav2", {"question": None}, "no text under 'question'"),
    ("vqav2", {"image_id": "x"}, "lacks a field of the picture's path"),
    ("vqav2", {"image_id": True}, "lacks a field of the picture's path"),
    ("textvqa", {"answers": None}, "no answers"),
    ("textcaps", {"reference_strs": [3]}, "an answer is not text"),
    ("vizwiz", {"answers": [{"answer": None}]}, "an answer is not text"),
    ("ocr_vqa", {"answers": ["one"]}, "2 questions but 1 answers"),
    ("ocr_vqa", {"split": 4}, "not 1, 2 or 3"),
    ("ocr_vqa", {"split": True}, "neither text nor a whole number"),
    ("gqa", {"imageId": None}, "lacks a field of the picture's path 'images/{imageId}.jpg'"),
    ("gqa", {"answer": None}, "no text under 'answer'"),
    ("flickr30k", {"sentences": None}, "no answers"),
    ("flickr30k", {"sentences": [{"tokens": []}]}, "an answer is not text"),
]


@pytest.mark.parametrize(("name", "changes", "reason"), REFUSALS)
def test_refusals(name: str, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parsed(name, **changes)


def test_wrong_values_of_options_are_refused() -> None:
    with pytest.raises(ValueError, match="ocr_vqa's split is 'val', which is not one of train, validation, test"):
        parsed("ocr_vqa", {"split": "val"})
    with pytest.raises(ValueError, match="lacks a field of the picture's path"):
        parsed("gqa", {"image": "{0}.jpg"})


def test_m3it_reads_one_picture_no_picture_and_no_input() -> None:
    one = parsed("m3it", image_base64_str=EXAMPLES["m3it"][0]["image_base64_str"][0], inputs="")
    assert (one.images, one.turns) == ([DOT], talk("<image>\nAnswer the question.", "A man."))
    none = parsed("m3it", image_base64_str=None, inputs=None)
    assert (none.images, none.turns) == ([], talk("Answer the question.", "A man."))


def test_minigpt4_asks_each_record_the_same_question_and_uses_all_wordings() -> None:
    asked = {number: parsed("minigpt4", image_id=number).turns[0]["text"] for number in range(60)}
    assert asked == {number: parsed("minigpt4", image_id=str(number)).turns[0]["text"] for number in range(60)}
    questions = formats.module("minigpt4").QUESTIONS
    assert set(asked.values()) == {f"<image>\n{question}" for question in questions}


def test_mantis_in_the_layout_of_its_own_repository() -> None:
    said = [{"from": "human", "value": "<image>What?"}, {"from": "gpt", "value": "That."}]
    record = {"id": "7", "images": ["a.jpg"], "conversations": said}
    assert read("mantis")(record) == Conversation("7", "", ["a.jpg"], talk("<image>What?", "That."))


def test_lamm_leaves_existing_placeholders_in_place() -> None:
    said = [{"from": "human", "value": "What?\n<image>"}, {"from": "gpt", "value": "That."}]
    assert parsed("lamm", conversations=said).turns == talk("What?\n<image>", "That.")


def test_hugging_face_reads_the_columns_that_its_options_name() -> None:
    row: dict[str, Any] = {"id": 3, "image": [{"bytes": DOT, "path": "a"}, {"bytes": None, "path": "b.jpg"}]}
    said = read("hugging_face")({**row, "question": "How many?", "answer": 4})
    assert said == Conversation("3", "", [DOT, "b.jpg"], talk("<image>\n<image>\nHow many?", "4"))
    said = read("hugging_face")({"question": "<image> or <image>?", "answer": ["a"], **row})
    assert said.turns == talk("<image> or <image>?", "a")
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What?"}]
    said = read("hugging_face", {"messages": "talk", "image": "image"})({**row, "talk": turns})
    assert [turn["text"] for turn in said.turns] == ["Be brief.", "<image>\n<image>\nWhat?"]
    assert read("hugging_face")({"question": "What?", "answer": "That."}) == Conversation(
        "", "", [], talk("What?", "That.")
    )


def test_sharegpt_messages() -> None:
    record = {
        "messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "They."}],
        "images": [],
    }
    assert read("sharegpt")(record) == Conversation("", "", [], talk("Who?", "They."))


def test_with_every_false_a_picture_is_one_conversation_with_all_references() -> None:
    assert parsed("textcaps", {"every": False}) == []
    (first,) = parsed("textcaps", {"every": False}, caption_str="A bottle.")
    assert (first.source_id, first.references) == ("c8cce87ba2b3a3c8", ["A bottle.", "Ink."])
    (photo,) = parsed("flickr30k", {"every": False, "split": "test"}, split="test")
    assert (photo.source_id, photo.references) == ("0", ["Two men.", "Friends."])


def test_records_of_other_splits_are_skipped() -> None:
    assert parsed("flickr30k", split="val") == []
    assert parsed("ocr_vqa", split=2) == []
    assert len(parsed("ocr_vqa", {"split": "validation"}, split=2)) == 2


def test_picture_paths() -> None:
    assert parsed("vqav2", image_id="42").images == ["train2014/COCO_train2014_000000000042.jpg"]
    assert parsed("textvqa", image_id="0001234567890123").images == ["train_images/0001234567890123.jpg"]
    assert parsed("gqa", {"image": "all/{imageId}.png"}).images == ["all/2354786.png"]
    assert parsed("ocr_vqa", {"image": "images/{key}.jpg"})[0].images == ["images/0123.jpg"]


def test_gqa_answers_in_full() -> None:
    assert parsed("gqa", {"full": True}).turns == talk("<image>\nIs the sky dark?", "Yes, the sky is dark.")


def test_of_equally_frequent_answers_the_first_is_taken() -> None:
    assert parsed("vizwiz", answers=["b", "a", "a", "b"]).turns[1]["text"] == "b"


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
QUESTIONS = st.lists(WORDS | st.sampled_from([IMAGE, f"{IMAGE}\n", f"\n{IMAGE} ", " ", "\n"]), max_size=6).map("".join)


@pytest.mark.parametrize("name", formats.exporters())
@given(pairs=st.lists(st.tuples(QUESTIONS, WORDS), min_size=1, max_size=3), source_id=st.text("ab1", min_size=1))
def test_exported_records_are_read_back(name: str, pairs: list[tuple[str, str]], source_id: str) -> None:
    turns = [Turn(role, text) for pair in pairs for role, text in zip(("user", "assistant"), pair, strict=True)]  # type: ignore[arg-type]
    count = sum(turn.text.count(IMAGE) for turn in turns)
    images = [f"pictures/{number}.png" for number in range(count)]
    sample = Sample(5, "mine", source_id, "talk", tuple(f"{number}.jpg" for number in range(count)), tuple(turns))
    record = json.loads(json.dumps(formats.module(name).write(sample, images)))
    assert (record["id"], record["task"], record["source"]) == (source_id, "talk", "mine")
    said = read(name)(record)
    assert (said.source_id, said.skill, said.images) == (source_id, "talk", images)
    assert said.turns == [{"role": turn.role, "text": turn.text} for turn in turns]


def test_chat_writes_text_without_placeholders_as_plain_text() -> None:
    turns = (Turn("user", f"So {IMAGE}{IMAGE}\nwhat?"), Turn("assistant", "That."))
    record = formats.module("chat").write(Sample(0, "mine", "1", "talk", ("a", "b"), turns), ["x/a", "x/b"])
    assert formats.module("chat").JSON_LINES
    assert record["messages"][1] == {"role": "assistant", "content": "That."}
    assert record["messages"][0]["content"] == [
        {"type": "text", "text": "So "},
        {"type": "image_url", "image_url": {"url": "x/a"}},
        {"type": "image_url", "image_url": {"url": "x/b"}},
        {"type": "text", "text": "\nwhat?"},
    ]
