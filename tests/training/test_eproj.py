"""EProj: what is trained, how an item is routed to a task's projector, and what stays unchanged."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from adapt_infinity.benchmarks.routing import answer_with_routing, measure_routing, route_items
from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import samples_of
from adapt_infinity.embedded.stream import EmbeddedStreamParams, write_stream
from adapt_infinity.features.probe import ProbeParams, identify
from adapt_infinity.intake.reading import Source
from adapt_infinity.model.adapters import eproj as eproj_adapter
from adapt_infinity.model.checkpoint import Vlm, answer_logits, apply_adapter_type, detach, load_vlm
from adapt_infinity.model.lora import adapter_digest, read_adapter, write_adapter
from adapt_infinity.model.prompts import collate, encode, encode_question, pad_token
from adapt_infinity.pool.pool import Pool, join_pool
from adapt_infinity.training.context import ReplayMemory, StepCallbacks, TrainingContext
from adapt_infinity.training.loop import train
from adapt_infinity.training.method_state import MethodState, start_state
from adapt_infinity.training.methods import eproj
from adapt_infinity.training.parameter_vector import collect_weights
from adapt_infinity.training.round import TrainingOutputs, train_adapter
from tests.conftest import PROJECT, checked, unread
from tests.training.usual import PARAMS, Toy, same

KEYS = eproj.Params(key_steps=20, key_rate=0.5)


@pytest.fixture(scope="module")
def first(toy: Toy) -> TrainingOutputs:
    return toy.train("eproj", 1, params=KEYS)


@pytest.fixture(scope="module")
def second(toy: Toy, first: TrainingOutputs) -> TrainingOutputs:
    return toy.train("eproj", 2, first, params=KEYS)


def task_projector(extra_tensors: dict[str, torch.Tensor], task: int) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in extra_tensors.items() if name.startswith(f"projector.{task}.")}


def test_a_key_by_hand() -> None:
    """Two rows at right angles and one of zeros: the key with the highest mean cosine lies between the two."""
    rows = torch.tensor([[2.0, 0.0], [0.0, 5.0], [0.0, 0.0]])
    assert eproj_adapter.learn_key(torch.zeros(2), rows, 0, 1.0).tolist() == pytest.approx([0.5**0.5] * 2)
    moved = eproj_adapter.learn_key(torch.tensor([1.0, 0.0]), rows, 50, 0.5)
    assert moved.tolist() == pytest.approx([0.5**0.5] * 2, abs=1e-3)
    assert eproj_adapter.learn_key(torch.zeros(2), torch.zeros(3, 2), 5, 1.0).tolist() == [0, 0], (
        "rows of zeros do not pull"
    )


def test_routing_by_hand() -> None:
    """The sum of both cosines decides; for an item without a picture the instruction decides."""
    tasks = {"tasks": ["a", "b"]}
    unit = torch.eye(2)
    extras = {f"key.{task}.{part}": unit[task] for task in range(2) for part in eproj_adapter.KEY_MODALITIES}
    image = torch.tensor([[0.0, 9.0], [1.0, 0.0], [0.0, 0.0]])
    instruction = torch.tensor([[2.0, 1.0], [1.0, 1.5], [1.0, 3.0]])
    # b: 0 + 2/√5 against 1 + 1/√5; a: 1 + 1/√3.25 against 1.5/√3.25; no picture: 1 against 3
    assert eproj_adapter.route(tasks, extras, image, instruction).tolist() == [1, 0, 1]


def test_the_first_round_equals_fine_tuning_of_the_projector_alone(first: TrainingOutputs, toy: Toy) -> None:
    """The training loop over the projector's own weights, set up by hand, gives the same bits."""
    vlm = load_vlm(toy.base, toy.model, toy.adapter)
    alone = replace(vlm, adapter_type={"kind": "eproj", "projector": PARAMS.projector, "tasks": []})
    params = replace(PARAMS, epochs=2, adapter_policy="continue")
    weights = collect_weights(alone, params.projector)
    assert weights.projector_start == 0
    memory = ReplayMemory(toy.pools[1], 1)
    log, _ = train(
        TrainingContext(alone, weights, toy.samples(1), toy.all_pictures, memory, params), StepCallbacks(), 2
    )
    expected = eproj_adapter.projector_weights(alone.model, alone.adapter_type, 0)
    found = task_projector(dict(first[0].extra_tensors), 0)
    assert found.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
    assert log["loss"].tolist() == first[1]["loss"].tolist()


def test_only_the_projector_of_the_task_is_trained(first: TrainingOutputs, second: TrainingOutputs, toy: Toy) -> None:
    adapter, _, _ = second
    assert same(adapter, toy.adapter), "the LoRA is not trained"
    assert adapter.adapter_type["tasks"] == ["toy", "contrary"]
    old, kept = task_projector(dict(first[0].extra_tensors), 0), task_projector(dict(adapter.extra_tensors), 0)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in old.items()), "and neither is the first projector"
    new = task_projector(dict(adapter.extra_tensors), 1)
    base = load_file(next(Path(toy.base.location).glob("*.safetensors")))
    own = {name.split("multi_modal_projector")[1]: tensor for name, tensor in base.items() if "projector" in name}
    for part in (kept, new):
        assert {name.split("multi_modal_projector")[1] for name in part} == own.keys()
        changed = [not torch.equal(part[name], own[name.split("multi_modal_projector")[1]]) for name in part]
        assert all(changed)
    assert adapter.parameter_count > first[0].parameter_count > toy.adapter.parameter_count


def test_a_round_of_text_alone_keeps_its_projector_and_gets_a_key(toy: Toy) -> None:
    """No sample has a gradient at the projector, which once was an error in the first step."""
    pool = toy.pools[1]
    text_only = [sample.sample_id for sample in toy.samples(1) if not sample.images]
    subset = pool.index[["sample_id"]].assign(selected=pool.index["sample_id"].isin(text_only))
    adapter, log, _ = train_adapter(
        *(pool, subset, toy.all_pictures, toy.base, toy.adapter, MethodState(), toy.folder / "text", toy.model),
        *(replace(PARAMS, method="eproj", epochs=1), {"eproj": vars(KEYS)}, 1),
    )
    base = load_vlm(toy.base, toy.model, toy.adapter)
    own = eproj_adapter.projector_weights(base.model, adapter.adapter_type, 0)
    assert base.original_weights == {}
    assert all(torch.equal(tensor, adapter.extra_tensors[name]) for name, tensor in own.items())
    assert adapter.extra_tensors["key.0.instruction"].norm().item() == pytest.approx(1)
    assert not adapter.extra_tensors["key.0.image"].any()
    assert (log["loss"] > 0).all()


def test_a_dataset_that_arrives_again_trains_its_projector_further(first: TrainingOutputs, toy: Toy) -> None:
    again, log, _ = toy.train("eproj", 1, first, params=KEYS)
    assert again.adapter_type["tasks"] == ["toy"]
    assert log["loss"].iloc[0] != first[1]["loss"].iloc[0]
    assert not torch.equal(
        *(next(iter(task_projector(dict(one.extra_tensors), 0).values())) for one in (again, first[0]))
    )


def test_it_survives_a_restart_of_the_process(
    first: TrainingOutputs, second: TrainingOutputs, toy: Toy, tmp_path: Path
) -> None:
    adapter, log, state = first
    write_adapter(adapter, tmp_path / "adapter")
    read = read_adapter(tmp_path / "adapter")
    assert adapter_digest(read) == adapter_digest(adapter)
    again, again_log, _ = toy.train("eproj", 2, (read, log, state), params=KEYS)
    assert adapter_digest(again) == adapter_digest(second[0])
    assert len(again_log) == 2 * 2  # five samples in batches of four, twice
    assert adapter_digest(detach(load_vlm(toy.base, toy.model, read), {}, read.moments)) == adapter_digest(adapter)


def test_with_the_pre_trained_projector_the_model_answers_as_at_genesis(second: TrainingOutputs, toy: Toy) -> None:
    vlm, plain = (load_vlm(toy.base, toy.model, adapter) for adapter in (second[0], toy.adapter))
    batch = collate([encode(vlm, sample, toy.all_pictures) for sample in toy.samples(1)], pad_token(vlm))
    expected = answer_logits(plain, batch)[0]
    assert torch.equal(answer_logits(vlm, batch)[0], expected)
    eproj_adapter.use_projector(vlm, 1)
    assert not torch.equal(answer_logits(vlm, batch)[0], expected)
    eproj_adapter.use_projector(vlm, None)
    assert torch.equal(answer_logits(vlm, batch)[0], expected)


def test_items_of_two_tasks_are_routed_correctly_at_any_batch_size(toy: Toy) -> None:
    """Two different tasks in one list of items, in batches of one item and of many."""
    vlm = load_vlm(toy.base, toy.model, toy.adapter)
    pictured = [sample for sample in toy.samples(1) if sample.images][:1]
    text_only = [sample for sample in toy.samples(1) if not sample.images][:1]
    vlm, sources = two_tasks(vlm, toy, pictured, text_only)
    rows = [encode_question(vlm, sample, toy.all_pictures) for sample in (*pictured, *text_only, *pictured)]
    assert route_items(vlm, rows, 4000).tolist() == route_items(vlm, rows, 1).tolist() == [0, 1, 0]
    many, few = (answer_with_routing(vlm, rows, sources, 4, tokens) for tokens in (4000, 1))
    assert many == few
    assert [answer.text for answer in many.answers] == many.oracle_texts
    assert many.routed_tasks == many.right_tasks
    tasks = {"routed_task": many.routed_tasks, "right_task": many.right_tasks}
    table = pd.DataFrame({**tasks, "score": 1.0, "oracle_score": 1.0})
    assert measure_routing(table) == {"accuracy": 1.0, "score": 1.0, "oracle_score": 1.0}


def two_tasks(vlm: Vlm, toy: Toy, first: list[Any], second: list[Any]) -> tuple[Vlm, list[str]]:
    """The model with two different projectors whose keys come from these samples, and the sources of three items."""
    from adapt_infinity.model.modality_embeddings import embed_modalities

    layout = {"kind": "eproj", "projector": PARAMS.projector, "tasks": ["seen", "talked"]}
    extras = eproj_adapter.projector_weights(vlm.model, layout, 0)
    extras |= {name: 2 * tensor for name, tensor in eproj_adapter.projector_weights(vlm.model, layout, 1).items()}
    for task, samples in enumerate((first, second)):
        parts = embed_modalities(vlm, [encode(vlm, sample, toy.all_pictures) for sample in samples], 4000)
        for part in eproj_adapter.KEY_MODALITIES:
            extras[f"key.{task}.{part}"] = eproj_adapter.learn_key(torch.zeros(128), getattr(parts, part), 5, 0.5)
    extras["key.1.image"] = torch.zeros_like(extras["key.0.image"])
    return apply_adapter_type(vlm, layout, extras), ["seen", "talked", "seen"]


def test_items_of_separable_tasks_are_routed_correctly(toy: Toy, tmp_path: Path) -> None:
    """One skill of each of three datasets, trained one after another; the items of all three are new to the model."""
    skills = {"visual_chat": "grounding", "digits": "digit", "charts": "bar_value"}
    write_stream(tmp_path, EmbeddedStreamParams(train_size=60, design_size=1, test_size=25))
    pictures = Pictures(dict.fromkeys(skills, tmp_path), max_pixels=10_000)
    pool, adapter, state = Pool(), toy.adapter, start_state()
    for round, (name, skill) in enumerate(skills.items(), start=1):
        arrivals, _ = checked(source(tmp_path, name, "train", skill), pictures, round=round, first_id=pool.size)
        pool = join_pool(pool, unread(arrivals), round)
        subset = pool.index[["sample_id"]].assign(selected=pool.index["round"] == round)
        adapter, _, state = train_adapter(
            *(pool, subset, pictures, toy.base, adapter, state, tmp_path / "checkpoints", toy.model),
            *(replace(PARAMS, method="eproj", epochs=1), {"eproj": vars(KEYS)}, round),
        )
    vlm = load_vlm(toy.base, toy.model, adapter)
    tests = [checked(source(tmp_path, name, "test", skill), pictures)[0] for name, skill in skills.items()]
    items = samples_of(pd.concat(tests))
    chosen = route_items(vlm, [encode_question(vlm, item, pictures) for item in items], 4000)
    found = [vlm.adapter_type["tasks"][task] == item.source for task, item in zip(chosen.tolist(), items, strict=True)]
    assert len(found) == 75
    assert sum(found) > 0.95 * len(found)


def source(root: Path, name: str, fold: str, skill: str) -> Source:
    records = json.loads((root / name / f"{fold}.json").read_text())
    return Source(name, "llava", [record for record in records if record["task"] == skill], {})


def test_items_without_a_right_task_do_not_count_for_the_routing() -> None:
    table = pd.DataFrame(
        {"routed_task": ["a", "a"], "right_task": ["b", ""], "score": [0.0, 1.0], "oracle_score": [1.0, 1.0]}
    )
    assert measure_routing(table) == {"accuracy": 0.0, "score": 0.0, "oracle_score": 1.0}
    assert measure_routing(table.iloc[1:]) == measure_routing(table[["score"]]) == {}


def test_impossible_settings_are_refused(first: TrainingOutputs, toy: Toy) -> None:
    probe = ProbeParams(**yaml.safe_load((PROJECT / "conf/base/parameters_features.yml").read_text())["probe"])
    with pytest.raises(ValueError, match=r"methods\.eproj\.key_rate must be greater than 0, got 0.0"):
        eproj.Params(key_steps=1, key_rate=0.0)
    with pytest.raises(ValueError, match=r"methods\.eproj\.key_steps must be at least 0, got -1"):
        eproj.Params(key_steps=-1, key_rate=1.0)
    with pytest.raises(ValueError, match="must stay 'multi_modal_projector' through a stream, got 'head'"):
        toy.train("eproj", 2, first, params=KEYS, projector="head")
    with pytest.raises(ValueError, match=r"training\.projector 'nowhere' matches no weight"):
        toy.train("eproj", 1, params=KEYS, projector="nowhere")
    with pytest.raises(ValueError, match=r"which training\.method=finetune cannot train"):
        toy.train("finetune", 2, (first[0], first[1], MethodState()))
    with pytest.raises(ValueError, match="choose a strategy without a probe"):
        identify(toy.base, first[0], toy.model, probe)
