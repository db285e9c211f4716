"""A sample without its pictures is what an encoding of its own gives, whichever way it was made."""

import logging
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import IMAGE, Sample, Turn
from adapt_infinity.features import image_ablation
from adapt_infinity.features.image_ablation import ImageAblationEncoder
from adapt_infinity.model.checkpoint import Vlm
from adapt_infinity.model.prompts import encode
from tests.model.test_prompts import with_template

SHOWN = "{%- if part['type'] == 'image' -%}{{- '<image>' -}}"
SAID = "{%- for part in message['content'] -%}{{- part['text'] -}}{%- endfor -%}"
END = "{{- '<|end|>' -}}\n{%- endgeneration -%}"
# changes of the embedded template, and how often a sample with a picture is encoded in the long run
FAMILIES: dict[str, tuple[list[tuple[str, str]], int]] = {
    "pictures alone": ([], 1),
    "marks around pictures": ([(SHOWN, SHOWN.replace("<image>", "<|pad|><image><|pad|>"))], 1),
    "a line after pictures": ([(SHOWN, SHOWN.replace("<image>", "<image>\\n"))], 1),
    "words before pictures": ([(SHOWN, SHOWN.replace("<image>", "see <image>"))], 2),
    "no end": ([(END, "{%- endgeneration -%}")], 1),
    "pictures in answers": (
        [(SAID, SAID.replace("{{- part['text'] -}}", SHOWN + "{%- else -%}{{- part['text'] -}}{%- endif -%}"))],
        1,
    ),
}


def asked(number: int, *texts: str) -> Sample:
    """A conversation of these turns, with as many pictures as they have places."""
    images = tuple(f"p{place % 6}.png" for place in range("".join(texts).count(IMAGE)))
    turns = tuple(Turn(("user", "assistant")[place % 2], text) for place, text in enumerate(texts))
    return Sample(number, "toy", f"{number}", "", images, turns)


def require_equal(
    reader: Vlm, pictures: Pictures, samples: Sequence[Sample], pair_reader: ImageAblationEncoder
) -> None:
    for sample in samples:
        whole, bare = pair_reader.read(sample)
        assert torch.equal(whole.input_ids, encode(reader, sample, pictures).input_ids)
        assert (bare is None) == (not sample.images)
        if bare is not None:
            full = encode(reader, sample.without_images(), pictures)
            assert bare.input_ids.tolist() == full.input_ids.tolist()
            assert bare.answers.tolist() == full.answers.tolist()
            assert bare.extras == full.extras == {}
            assert bare.sample_id == full.sample_id


TEXTS = st.lists(st.sampled_from([IMAGE, IMAGE + "\n", "a", " ", "\n", "What", "颜", "<|user|>", "9.5"]), max_size=6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(questions=st.lists(TEXTS.map("".join), min_size=1, max_size=3))
def test_wherever_pictures_stand(
    questions: list[str], vlm: Vlm, pictures: Pictures, experienced: ImageAblationEncoder
) -> None:
    turns = [text for question in questions for text in (question, "yes, it is")]
    require_equal(vlm, pictures, [asked(0, *turns)], experienced)


@pytest.fixture(scope="module")
def experienced(vlm: Vlm, pictures: Pictures) -> ImageAblationEncoder:
    """One that has left its checks behind."""
    reader = ImageAblationEncoder(vlm, pictures)
    for number in range(2 * image_ablation.CHECKED):
        reader.read(asked(number, f"{IMAGE}\nWhat?", "It."))
    return reader


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The ids of what was encoded in full."""
    seen: list[int] = []

    def watched(reader: Any, sample: Sample, pictures: Pictures) -> Any:
        seen.append(sample.sample_id)
        return encode(reader, sample, pictures)

    monkeypatch.setattr(image_ablation, "encode", watched)
    return seen


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_read_exactly_and_in_one_go_where_that_can_be(
    family: str, vlm: Vlm, samples: list[Sample], pictures: Pictures, encodings: list[int]
) -> None:
    changes, times = FAMILIES[family]
    reader = with_template(vlm, *changes)
    pair_reader = ImageAblationEncoder(reader, pictures)
    like = [asked(number, f"{IMAGE}\nWhat is it?", f"Number {number}.") for number in range(image_ablation.CHECKED + 1)]
    require_equal(reader, pictures, [*like, *samples], pair_reader)
    encodings.clear()
    require_equal(reader, pictures, [asked(100, f"{IMAGE}\nAnd this?", "Noise.")], pair_reader)
    assert encodings == [100] * times


def test_nothing_is_encoded_that_nobody_asks_for(vlm: Vlm, pictures: Pictures, encodings: list[int]) -> None:
    reader = ImageAblationEncoder(vlm, pictures, twice=False)
    whole, bare = reader.read(asked(7, f"{IMAGE}\nWhat?", "It."))
    assert bare is None
    assert encodings == [7]
    assert whole.input_ids.equal(encode(vlm, asked(7, f"{IMAGE}\nWhat?", "It."), pictures).input_ids)


DRAWN = "{%- for part in message['content'] -%}" + SHOWN + "{%- endif -%}{%- endfor -%}"
PICTURES_LAST = [
    (SAID, SAID.replace("{{- part['text'] -}}", "{%- if part['type'] == 'text' -%}{{- part['text'] -}}{%- endif -%}")),
    (END, "{%- endgeneration -%}" + DRAWN + "{{- '<|end|>' -}}"),
]
END_BEHIND = [*FAMILIES["pictures in answers"][0], (END, "{%- endgeneration -%}" + "{{- '<|end|>' -}}")]


@pytest.mark.parametrize("changes", [FAMILIES["pictures in answers"][0], END_BEHIND, PICTURES_LAST])
def test_pictures_in_answers(changes: list[tuple[str, str]], vlm: Vlm, pictures: Pictures) -> None:
    reader = with_template(vlm, *changes)
    like = [asked(number, f"{IMAGE}\nWhat is it?", "It.") for number in range(image_ablation.CHECKED + 1)]
    drawn = [
        asked(10, "Draw!", f"Here: {IMAGE}"),
        asked(11, f"{IMAGE} Again!", f"{IMAGE} So."),
        asked(12, "Draw!", IMAGE, "Well done?", "Yes."),
    ]
    require_equal(reader, pictures, [*like, *drawn], ImageAblationEncoder(reader, pictures))


class AddsToText:
    """A processor that puts a token before a conversation that has no picture."""

    def __init__(self, processor: Any) -> None:
        self.tokenizer, self._processor = processor.tokenizer, processor

    def apply_chat_template(self, messages: Any, **options: Any) -> Any:
        made = self._processor.apply_chat_template(messages, **options)
        if options["tokenize"] and "pixel_values" not in made:
            for name in ("input_ids", "assistant_masks"):
                row = torch.as_tensor(made[name])
                made[name] = torch.cat([torch.zeros_like(row[:, :1]), row], dim=1)
        return made


def test_a_family_that_treats_text_otherwise_is_found_out_and_said_so_once(
    vlm: Vlm, pictures: Pictures, caplog: pytest.LogCaptureFixture
) -> None:
    reader = Vlm(vlm.model, AddsToText(vlm.processor), vlm.device, vlm.max_tokens)
    samples = [asked(number, f"{IMAGE}\nWhat?", "It.") for number in range(3 * image_ablation.PATIENCE)]
    with caplog.at_level(logging.INFO):
        require_equal(reader, pictures, samples, ImageAblationEncoder(reader, pictures))
    assert caplog.text.count("every sample is encoded a second time") == 1
