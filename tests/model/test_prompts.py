"""Prompts: labels are on answer tokens and nowhere else, whatever the chat template."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import IGNORED_LABEL, Sample, Turn
from adapt_infinity.intake.reading import Source
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, Reader, Vlm, load_reader
from adapt_infinity.model.prompts import PromptCheck, batches, collate, encode, encode_question, end_tokens, pad_token
from tests.conftest import checked, intake


def decoded(vlm: Vlm, tokens: torch.Tensor) -> str:
    return str(vlm.processor.tokenizer.decode(tokens, skip_special_tokens=True))


def test_answer_tokens_decode_to_the_answers(vlm: Vlm, samples: list[Sample], pictures: Pictures) -> None:
    for sample in samples:
        encoded = encode(vlm, sample, pictures)
        answers = "".join(turn.text for turn in sample.turns if turn.role == "assistant")
        assert decoded(vlm, encoded.input_ids[encoded.answers]).replace(" ", "") == answers.replace(" ", "")


def test_an_encoded_question_starts_the_conversation(vlm: Vlm, samples: list[Sample], pictures: Pictures) -> None:
    for sample in samples:
        whole, question = encode(vlm, sample, pictures), encode_question(vlm, sample, pictures)
        assert whole.input_ids[: len(question)].tolist() == question.input_ids.tolist()
        assert not whole.answers[len(question) - 1]
        assert whole.answers[len(question) :].all()


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_adds_neither_tokens_nor_labels(vlm: Vlm, samples: list[Sample], pictures: Pictures, side: str) -> None:
    rows = [encode(vlm, sample, pictures) for sample in samples]
    batch = collate(rows, pad_token(vlm), side)
    for index, row in enumerate(rows):
        real = batch.attention_mask[index] == 1
        assert batch.input_ids[index][real].tolist() == row.input_ids.tolist()
        assert (batch.labels[index] != IGNORED_LABEL).sum() == row.answers.sum()
        assert (batch.labels[index][~real] == IGNORED_LABEL).all()
    assert len(batch.extras["pixel_values"]) == sum(len(sample.images) for sample in samples)


def test_no_pixels_for_a_batch_without_pictures(vlm: Vlm, samples: list[Sample], pictures: Pictures) -> None:
    text_only = [sample for sample in samples if not sample.images]
    assert len(text_only) == 2
    assert collate([encode(vlm, sample, pictures) for sample in text_only], pad_token(vlm)).extras == {}


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 200))
def test_batches_take_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    made = batches(lengths, budget)
    assert sorted(index for members in made for index in members) == list(range(len(lengths)))
    for members in made:
        assert len(members) == 1 or max(lengths[index] for index in members) * len(members) <= budget


@pytest.fixture(scope="session")
def reader(base_model: Checkpoint, model_params: ModelParams) -> Reader:
    return load_reader(base_model, model_params)


def test_intake_rejects_what_the_model_cannot_read(toy_source: Source, pictures: Pictures, reader: Reader) -> None:
    lenient = intake(max_reject_share=1.0)
    arrivals, rejects = checked(
        toy_source, pictures, lenient, check_sample=PromptCheck(replace(reader, max_tokens=60), pictures)
    )
    assert rejects["source_id"].tolist() == ["long"]
    assert "tokens, model.max_tokens is 60" in rejects["reason"].item()
    assert len(arrivals) + len(rejects) == len(toy_source.records)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"no usable sample .* tokens, model.max_tokens is …"):
        checked(toy_source, pictures, lenient, check_sample=PromptCheck(replace(reader, max_tokens=2), pictures))


def test_a_reader_encodes_as_the_model_does(
    vlm: Vlm, reader: Reader, samples: list[Sample], pictures: Pictures
) -> None:
    assert end_tokens(reader) == end_tokens(vlm)
    for sample in samples:
        without, with_model = encode(reader, sample, pictures), encode(vlm, sample, pictures)
        assert without.input_ids.tolist() == with_model.input_ids.tolist()
        assert without.answers.tolist() == with_model.answers.tolist()


def test_prompt_check_agrees_with_encode_at_every_limit(
    reader: Reader, samples: list[Sample], pictures: Pictures
) -> None:
    """What the check accepts can be encoded, and what it refuses cannot."""
    lengths = [len(encode(reader, sample, pictures)) for sample in samples]
    sizes = [[pictures.open(sample.source, name).size for name in sample.images] for sample in samples]
    for limit in range(5, 121):
        check = PromptCheck(replace(reader, max_tokens=limit), pictures)
        for sample, picture_sizes, length in zip(samples, sizes, lengths, strict=True):
            assert accepts(check, sample, picture_sizes) == (length <= limit), (limit, sample.source_id)


WORDS = st.lists(
    st.sampled_from(["<|end|>", "a", " ", "\n", "é", "🙂", "颜", "word ", "\u200b", "9.5", "ﷺ"]), max_size=30
)


@given(texts=st.lists(WORDS.map("".join).filter(str.strip), min_size=2, max_size=6), limit=st.integers(20, 90))
def test_prompt_check_agrees_with_encode_on_any_text(
    texts: list[str], limit: int, reader: Reader, pictures: Pictures
) -> None:
    short = replace(reader, max_tokens=limit)
    check = PromptCheck(short, pictures)
    check(Sample(0, "toy", "", "", (), (Turn("user", "a"), Turn("assistant", "a"))), [])
    pairs = texts[: len(texts) // 2 * 2]
    turns = tuple(Turn(("user", "assistant")[number % 2], text) for number, text in enumerate(pairs))
    sample = Sample(1, "toy", "", "", (), turns)
    assert accepts(check, sample, []) == (len(encode(reader, sample, pictures)) <= short.max_tokens)


def accepts(check: PromptCheck, sample: Sample, sizes: list[tuple[int, int]]) -> bool:
    try:
        check(sample, sizes)
    except ValueError:
        return False
    return True


class WithTemplate:
    """A processor with a changed chat template: `changes` are pairs of old and new text."""

    def __init__(self, processor: Any, *changes: tuple[str, str]) -> None:
        self.tokenizer = processor.tokenizer
        self._processor, self._template = processor, processor.chat_template
        for old, new in changes:
            assert old in self._template
            self._template = self._template.replace(old, new)

    def apply_chat_template(self, messages: Any, **options: Any) -> Any:
        return self._processor.apply_chat_template(messages, chat_template=self._template, **options)


def with_template(vlm: Vlm, *changes: tuple[str, str]) -> Vlm:
    return Vlm(vlm.model, WithTemplate(vlm.processor, *changes), vlm.device, vlm.max_tokens)


def test_a_template_without_generation_blocks_is_refused(vlm: Vlm, samples: list[Sample], pictures: Pictures) -> None:
    unmarked = with_template(vlm, ("{%- generation -%}", ""), ("{%- endgeneration -%}", ""))
    with pytest.raises(ValueError, match="does not mark answers with"):
        encode(unmarked, samples[0], pictures)


END = "{{- '<|end|>' -}}"


@pytest.mark.parametrize(
    "changes",
    [
        [(END + "\n{%- endgeneration -%}", "{%- endgeneration -%}" + END)],  # the end token stands behind the block
        [(END + "\n{%- endgeneration -%}", "{%- endgeneration -%}")],  # no end token, as in LLaVA-1.5's template
    ],
)
def test_with_every_template_the_end_token_is_part_of_the_answer(
    vlm: Vlm, samples: list[Sample], pictures: Pictures, changes: list[tuple[str, str]]
) -> None:
    for sample in samples:
        usual, other = encode(vlm, sample, pictures), encode(with_template(vlm, *changes), sample, pictures)
        assert usual.answers[-1]
        assert other.answers[-1]
        assert usual.input_ids[-1] == other.input_ids[-1] == vlm.processor.tokenizer.eos_token_id
        assert decoded(vlm, usual.input_ids[usual.answers]) == decoded(vlm, other.input_ids[other.answers])
