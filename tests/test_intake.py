"""Intake: nothing bad gets through, nothing disappears."""

from typing import Any

import pytest

from adapt_infinity.intake import IntakeParams, Source, check_records
from adapt_infinity.pictures import Pictures
from tests.conftest import llava

PARAMS = IntakeParams(max_text=1000, max_reject_share=1.0)
GOOD = llava("good", ("Hello?", "Hi."))


def test_a_good_source_passes_whole(toy_source: Source, pictures: Pictures) -> None:
    arrivals, rejects = check_records(toy_source, pictures, PARAMS)
    assert arrivals["source_id"].tolist() == [record["id"] for record in toy_source.records]
    assert rejects.empty
    assert arrivals["content_hash"].is_unique


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (llava("a", ("Hello?", "")), "answer is empty"),
        (llava("a", ("Hello?", " \n")), "answer is empty"),
        (llava("a", ("", "Hi.")), "question is empty"),
        (llava("a", ("<image>What?", "Hi."), image="gone.png"), "missing"),
        (llava("a", ("<image>What?", "Hi."), image="../p0.png"), "leaves its root"),
        (llava("a", ("What?", "Hi."), image="p0.png"), "0 image placeholders but 1 pictures"),
        (llava("a", ("<image><image>What?", "Hi."), image="p0.png"), "2 image placeholders but 1 pictures"),
        (llava("a", ("<image>What?", "Hi.")), "1 image placeholders but 0 pictures"),
        (llava("a", ("What?", "It is <image>."), image="p0.png"), "placeholder"),
        (llava("good", ("Again?", "Yes.")), "id was already used"),
        (llava("a", ("x" * 2000, "Hi.")), "2003 characters"),
        (llava("a", ("Half a pair: \ud83d", "Hi.")), "valid Unicode"),
        ({"id": "a", "conversations": []}, "no conversations"),
        ({"id": "a", "conversations": "talk"}, "no conversations"),
        ({"id": "a", "conversations": [{"from": "gpt", "value": "Hi."}]}, "alternate"),
        ({"id": "a", "conversations": [{"from": "human", "value": "Hello?"}]}, "alternate"),
        ({"id": "a", "conversations": [{"from": "robot", "value": "Hello?"}]}, "robot"),
        ({"id": "a", "conversations": [{"from": "human", "value": float("nan")}]}, "no text"),
        ({"conversations": [{"from": "human", "value": "Hello?"}]}, "no id"),
        (llava("a", ("<image>What?", "Hi."), image=[3]), "neither a path"),  # type: ignore[list-item]
        ("not a record", "not an object"),
        (None, "not an object"),
    ],
)
def test_a_bad_record_is_set_aside_with_its_reason(record: Any, reason: str, pictures: Pictures) -> None:
    arrivals, rejects = check_records(Source("toy", "llava", [GOOD, record], {}), pictures, PARAMS)
    assert arrivals["source_id"].tolist() == ["good"]
    assert reason in rejects["reason"].item()
    assert rejects[["source", "position"]].values.tolist() == [["toy", 1]]


def test_a_source_that_yields_nothing_is_named(pictures: Pictures) -> None:
    with pytest.raises(ValueError, match=r"'toy' yields no usable sample \(1 rejected; the first reason: an answer is"):
        check_records(Source("toy", "llava", [llava("a", ("Hello?", ""))], {}), pictures, PARAMS)


def test_a_source_that_is_mostly_broken_stops_the_round(pictures: Pictures) -> None:
    records = [GOOD, *(llava(str(number), ("Hello?", "")) for number in range(3))]
    check_records(Source("toy", "llava", records, {}), pictures, IntakeParams(max_text=99, max_reject_share=0.75))
    with pytest.raises(ValueError, match=r"3 of 4 records are bad, more than intake.max_reject_share \(0.7\)"):
        check_records(Source("toy", "llava", records, {}), pictures, IntakeParams(max_text=99, max_reject_share=0.7))


def test_parameters_name_key_and_value() -> None:
    with pytest.raises(ValueError, match=r"intake.max_reject_share must lie in 0..1, got 2.0"):
        IntakeParams(max_text=1, max_reject_share=2.0)


def test_an_id_of_an_earlier_round_is_a_reject(pictures: Pictures) -> None:
    records = [GOOD, llava("new", ("Hello?", "Hi."))]
    arrivals, rejects = check_records(Source("toy", "llava", records, {}), pictures, PARAMS, known_ids={"good"})
    assert arrivals["source_id"].tolist() == ["new"]
    assert rejects["source_id"].tolist() == ["good"]
