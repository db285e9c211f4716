"""Prompts: labels sit on answer tokens and nowhere else."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adapt_infinity.intake import IntakeParams, Source, check_records
from adapt_infinity.model import IGNORED, Checkpoint, ModelParams, Vlm
from adapt_infinity.pictures import Pictures
from adapt_infinity.prompts import batches, check_prompts, collate, encode, encode_question, pad_token
from adapt_infinity.sample import Sample, samples_of


@pytest.fixture(scope="session")
def samples(toy_source: Source, pictures: Pictures) -> list[Sample]:
    arrivals, _ = check_records(toy_source, pictures, IntakeParams(max_text=10_000, max_reject_share=0.0))
    return samples_of(arrivals.assign(sample_id=range(len(arrivals))))


def spoken(vlm: Vlm, tokens: torch.Tensor) -> str:
    return str(vlm.processor.tokenizer.decode(tokens, skip_special_tokens=True))


def test_answers_are_exactly_what_the_assistant_says(vlm: Vlm, samples: list[Sample], pictures: Pictures) -> None:
    for sample in samples:
        encoded = encode(vlm, sample, pictures)
        said = "".join(turn.text for turn in sample.turns if turn.role == "assistant")
        assert spoken(vlm, encoded.input_ids[encoded.answers]).replace(" ", "") == said.replace(" ", "")


def test_a_question_is_the_start_of_the_conversation(vlm: Vlm, samples: list[Sample], pictures: Pictures) -> None:
    for sample in samples:
        whole, asked = encode(vlm, sample, pictures), encode_question(vlm, sample, pictures)
        assert whole.input_ids[: len(asked)].tolist() == asked.input_ids.tolist()
        assert not whole.answers[len(asked) - 1]
        assert whole.answers[len(asked) :].all()


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_adds_nothing(vlm: Vlm, samples: list[Sample], pictures: Pictures, side: str) -> None:
    rows = [encode(vlm, sample, pictures) for sample in samples]
    batch = collate(rows, pad_token(vlm), side)
    for place, row in enumerate(rows):
        kept = batch.attention_mask[place] == 1
        assert batch.input_ids[place][kept].tolist() == row.input_ids.tolist()
        assert (batch.labels[place] != IGNORED).sum() == row.answers.sum()
        assert (batch.labels[place][~kept] == IGNORED).all()
    assert len(batch.extras["pixel_values"]) == sum(len(sample.images) for sample in samples)


def test_no_pixels_for_a_batch_without_pictures(vlm: Vlm, samples: list[Sample], pictures: Pictures) -> None:
    bare = [sample for sample in samples if not sample.images]
    assert len(bare) == 2
    assert collate([encode(vlm, sample, pictures) for sample in bare], pad_token(vlm)).extras == {}


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 200))
def test_batches_take_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    gathered = batches(lengths, budget)
    assert sorted(place for places in gathered for place in places) == list(range(len(lengths)))
    for places in gathered:
        assert len(places) == 1 or max(lengths[place] for place in places) * len(places) <= budget


def test_what_the_model_cannot_read_is_set_aside(
    toy_source: Source, pictures: Pictures, base_model: Checkpoint, model_params: ModelParams
) -> None:
    checked, rejects = check_records(toy_source, pictures, IntakeParams(max_text=10_000, max_reject_share=0.0))
    short = ModelParams(**{**vars(model_params), "max_tokens": 60})
    arrivals, rejected = check_prompts(checked, rejects, pictures, base_model, short)
    assert rejected["source_id"].tolist() == ["long"]
    assert "tokens, model.max_tokens is 60" in rejected["reason"].item()
    assert len(arrivals) + len(rejected) == len(toy_source.records)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no arriving sample can be read"):
        check_prompts(checked, rejects, pictures, base_model, ModelParams(**{**vars(model_params), "max_tokens": 2}))


class WithTemplate:
    """The processor with another chat template."""

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


def test_a_template_that_marks_no_answers_is_refused(vlm: Vlm, samples: list[Sample], pictures: Pictures) -> None:
    unmarked = with_template(vlm, ("{%- generation -%}", ""), ("{%- endgeneration -%}", ""))
    with pytest.raises(ValueError, match="does not mark answers with"):
        encode(unmarked, samples[0], pictures)


END = "{{- '<|end|>' -}}"


@pytest.mark.parametrize(
    "changes",
    [
        [(END + "\n{%- endgeneration -%}", "{%- endgeneration -%}" + END)],  # the end stands behind the marks
        [(END + "\n{%- endgeneration -%}", "{%- endgeneration -%}")],  # there is none, as in LLaVA-1.5's template
    ],
)
def test_every_template_teaches_where_to_stop(
    vlm: Vlm, samples: list[Sample], pictures: Pictures, changes: list[tuple[str, str]]
) -> None:
    for sample in samples:
        usual, other = encode(vlm, sample, pictures), encode(with_template(vlm, *changes), sample, pictures)
        assert usual.answers[-1]
        assert other.answers[-1]
        assert usual.input_ids[-1] == other.input_ids[-1] == vlm.processor.tokenizer.eos_token_id
        assert spoken(vlm, usual.input_ids[usual.answers]) == spoken(vlm, other.input_ids[other.answers])
