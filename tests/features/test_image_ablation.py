"""Image ablation: the derived tokens of a sample without its images equal those of a full encoding."""

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
from adapt_infinity.features.image_ablation import CHECKED_SAMPLES, ImageAblationEncoder
from adapt_infinity.model.checkpoint import Vlm
from adapt_infinity.model.prompts import encode
from tests.model.test_prompts import with_template

SHOW_IMAGE = "{%- if part['type'] == 'image' -%}{{- '<image>' -}}"
TEXT = "{{- part['text'] -}}"
ANSWER_TEXT = "{%- for part in message['content'] -%}" + TEXT + "{%- endfor -%}"
END = "{{- '<|end|>' -}}\n{%- endgeneration -%}"
# Name: changes of the embedded model's template, and how often a sample with a picture is encoded in the long run.
TEMPLATES: dict[str, tuple[list[tuple[str, str]], int]] = {
    "an image token only": ([], 1),
    "tokens around images": ([(SHOW_IMAGE, SHOW_IMAGE.replace("<image>", "<|pad|><image><|pad|>"))], 1),
    "a line break after images": ([(SHOW_IMAGE, SHOW_IMAGE.replace("<image>", "<image>\\n"))], 1),
    "text before images": ([(SHOW_IMAGE, SHOW_IMAGE.replace("<image>", "see <image>"))], 2),
    "no end token": ([(END, "{%- endgeneration -%}")], 1),
    "images in answers": (
        [(ANSWER_TEXT, ANSWER_TEXT.replace(TEXT, SHOW_IMAGE + "{%- else -%}" + TEXT + "{%- endif -%}"))],
        1,
    ),
}


def conversation(number: int, *texts: str) -> Sample:
    """A conversation of these turns, with one picture for each `<image>` in them."""
    images = tuple(f"p{index % 6}.png" for index in range("".join(texts).count(IMAGE)))
    turns = tuple(Turn(("user", "assistant")[index % 2], text) for index, text in enumerate(texts))
    return Sample(number, "toy", f"{number}", "", images, turns)


def require_equal_to_full_encoding(
    reader: Vlm, pictures: Pictures, samples: Sequence[Sample], encoder: ImageAblationEncoder
) -> None:
    for sample in samples:
        whole, ablated = encoder.encode_pair(sample)
        assert torch.equal(whole.input_ids, encode(reader, sample, pictures).input_ids)
        assert (ablated is None) == (not sample.images)
        if ablated is not None:
            full = encode(reader, sample.without_images(), pictures)
            assert ablated.input_ids.tolist() == full.input_ids.tolist()
            assert ablated.answers.tolist() == full.answers.tolist()
            assert ablated.extras == full.extras == {}
            assert ablated.sample_id == full.sample_id


TEXTS = st.lists(st.sampled_from([IMAGE, IMAGE + "\n", "a", " ", "\n", "What", "颜", "<|user|>", "9.5"]), max_size=6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(questions=st.lists(TEXTS.map("".join), min_size=1, max_size=3))
def test_derived_tokens_are_right_wherever_images_are(
    questions: list[str], vlm: Vlm, pictures: Pictures, checked_encoder: ImageAblationEncoder
) -> None:
    turns = [text for question in questions for text in (question, "yes, it is")]
    require_equal_to_full_encoding(vlm, pictures, [conversation(0, *turns)], checked_encoder)


@pytest.fixture(scope="module")
def checked_encoder(vlm: Vlm, pictures: Pictures) -> ImageAblationEncoder:
    """An encoder whose first samples were checked, so that it trusts derived tokens."""
    encoder = ImageAblationEncoder(vlm, pictures)
    for number in range(2 * CHECKED_SAMPLES):
        encoder.encode_pair(conversation(number, f"{IMAGE}\nWhat?", "It."))
    return encoder


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The ids of the samples that were encoded in full."""
    seen: list[int] = []

    def recorded(reader: Any, sample: Sample, pictures: Pictures) -> Any:
        seen.append(sample.sample_id)
        return encode(reader, sample, pictures)

    monkeypatch.setattr(image_ablation, "encode", recorded)
    return seen


@pytest.mark.parametrize("template", TEMPLATES)
def test_with_every_template_tokens_are_right_and_encoded_once_where_possible(
    template: str, vlm: Vlm, samples: list[Sample], pictures: Pictures, encodings: list[int]
) -> None:
    changes, times = TEMPLATES[template]
    reader = with_template(vlm, *changes)
    encoder = ImageAblationEncoder(reader, pictures)
    similar = [
        conversation(number, f"{IMAGE}\nWhat is it?", f"Number {number}.") for number in range(CHECKED_SAMPLES + 1)
    ]
    require_equal_to_full_encoding(reader, pictures, [*similar, *samples], encoder)
    encodings.clear()
    require_equal_to_full_encoding(reader, pictures, [conversation(100, f"{IMAGE}\nAnd this?", "Noise.")], encoder)
    assert encodings == [100] * times


def test_without_ablation_a_sample_is_encoded_once(vlm: Vlm, pictures: Pictures, encodings: list[int]) -> None:
    encoder = ImageAblationEncoder(vlm, pictures, ablate=False)
    whole, ablated = encoder.encode_pair(conversation(7, f"{IMAGE}\nWhat?", "It."))
    assert ablated is None
    assert encodings == [7]
    assert whole.input_ids.equal(encode(vlm, conversation(7, f"{IMAGE}\nWhat?", "It."), pictures).input_ids)


SHOW_ALL_IMAGES = "{%- for part in message['content'] -%}" + SHOW_IMAGE + "{%- endif -%}{%- endfor -%}"
IMAGES_LAST = [
    (ANSWER_TEXT, ANSWER_TEXT.replace(TEXT, "{%- if part['type'] == 'text' -%}" + TEXT + "{%- endif -%}")),
    (END, "{%- endgeneration -%}" + SHOW_ALL_IMAGES + "{{- '<|end|>' -}}"),
]
END_BEHIND_ANSWER = [*TEMPLATES["images in answers"][0], (END, "{%- endgeneration -%}" + "{{- '<|end|>' -}}")]


@pytest.mark.parametrize("changes", [TEMPLATES["images in answers"][0], END_BEHIND_ANSWER, IMAGES_LAST])
def test_images_in_answers(changes: list[tuple[str, str]], vlm: Vlm, pictures: Pictures) -> None:
    reader = with_template(vlm, *changes)
    similar = [conversation(number, f"{IMAGE}\nWhat is it?", "It.") for number in range(CHECKED_SAMPLES + 1)]
    with_images_in_answers = [
        conversation(10, "Draw!", f"Here: {IMAGE}"),
        conversation(11, f"{IMAGE} Again!", f"{IMAGE} So."),
        conversation(12, "Draw!", IMAGE, "Well done?", "Yes."),
    ]
    encoder = ImageAblationEncoder(reader, pictures)
    require_equal_to_full_encoding(reader, pictures, [*similar, *with_images_in_answers], encoder)


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


def test_a_processor_that_changes_text_is_detected_and_logged_once(
    vlm: Vlm, pictures: Pictures, caplog: pytest.LogCaptureFixture
) -> None:
    reader = Vlm(vlm.model, AddsToText(vlm.processor), vlm.device, vlm.max_tokens)
    samples = [conversation(number, f"{IMAGE}\nWhat?", "It.") for number in range(3 * image_ablation.PATIENCE)]
    with caplog.at_level(logging.INFO):
        require_equal_to_full_encoding(reader, pictures, samples, ImageAblationEncoder(reader, pictures))
    assert caplog.text.count("every sample is encoded a second time") == 1
