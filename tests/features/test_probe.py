"""The probe: rows in pool order, each content read once, and the same bytes with any workers, batches or restarts."""

import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from adapt_infinity import executors
from adapt_infinity.data.pictures import Pictures
from adapt_infinity.datasets.features import FeaturesDataset, ProbeStoreDataset
from adapt_infinity.features import scores, worker
from adapt_infinity.features.probe import ProbeParams, probe_pool
from adapt_infinity.features.store import Features
from adapt_infinity.intake.reading import Source
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, load_vlm, new_adapter
from adapt_infinity.model.lora import Adapter, read_adapter, write_adapter
from adapt_infinity.pool.pool import Pool, join_pool
from adapt_infinity.training.method_state import start_state
from adapt_infinity.training.round import train_adapter
from tests.conftest import PROJECT, checked, llava, unread
from tests.executors.work import last_task_first
from tests.training.usual import DEFAULTS
from tests.training.usual import PARAMS as TRAINING

PARAMS = ProbeParams(
    feature="gradient",
    layers="middle",
    embedding_layer=-1,
    dim=256,
    gradient="sgd",
    sketch="segments",
    image_grounding=True,
    proxy="",
    proxy_adapter="",
    reuse="exact",
    drift_share=0.5,
    drift_limit=0.9,
    executor="local",
    workers=1,
    loaders=0,
    threads=1,
    shard=3,
    window=2,
    token_budget=400,
    memory_mb=0,
    image_cache_mb=0,
)
Probe = Callable[..., Features]


@pytest.fixture(scope="module")
def pool(toy_source: Source, pictures: Pictures) -> Pool:
    return join_pool(Pool(), unread(checked(toy_source, pictures)[0]), 1)


@pytest.fixture(scope="module")
def probe_below(
    pool: Pool,
    pictures: Pictures,
    base_model: Checkpoint,
    warm_adapter: Adapter,
    model_params: ModelParams,
) -> Probe:
    """A function that probes a pool as a round does, through the datasets; `stream` names a folder below `root`."""

    def run(
        root: Path,
        params: ProbeParams = PARAMS,
        pool: Pool = pool,
        adapter: Adapter = warm_adapter,
        round: int = 1,
        stream: str = "s",
    ) -> Features:
        store = ProbeStoreDataset(filepath=str(root / stream / "probe")).load()
        read = probe_pool(pool, pictures, base_model, adapter, store, model_params, params, round)
        place = root / stream / f"round_{round}/features"
        version = f"{len(list(place.glob('*'))):03d}"
        from kedro.io.core import Version

        dataset = FeaturesDataset(filepath=str(place), version=Version(version, version))
        dataset.save(read)
        features: Features = dataset.load()
        return features

    return run


@pytest.fixture
def probe(probe_below: Probe, tmp_path: Path) -> Probe:
    """`probe_below` in a folder of the test's own."""
    return partial(probe_below, tmp_path)


@pytest.fixture(scope="module")
def usual(probe_below: Probe, tmp_path_factory: pytest.TempPathFactory) -> Features:
    """The pool, read once with the usual parameters for all tests that compare with it."""
    return probe_below(tmp_path_factory.mktemp("usual"))


def same_bytes(one: Features, other: Features) -> bool:
    """Whether rows and scores are equal to the last bit."""
    return (
        one.gradients.tobytes() == other.gradients.tobytes()
        and one.embeddings.tobytes() == other.embeddings.tobytes()
        and one.scores.equals(other.scores)
    )


def moved(adapter: Adapter, by: float) -> Adapter:
    """The adapter with noise on every weight, of `by` standard deviations, as if it had been trained further."""
    generator, tensors = torch.Generator().manual_seed(1), {}
    for name, tensor in adapter.tensors.items():
        tensors[name] = tensor + by * tensor.std() * torch.randn(tensor.shape, generator=generator)
    return Adapter(adapter.config, tensors, adapter.record)


def test_every_row_has_unit_features_and_every_score(usual: Features, pool: Pool) -> None:
    made = usual
    assert made.scores["sample_id"].tolist() == made.sample_ids.tolist() == pool.rows()["sample_id"].tolist()
    assert set(scores.names()) <= set(made.scores.columns)
    assert np.isfinite(made.scores.drop(columns="stale").to_numpy(float)).all()
    for rows in (made.gradients, made.embeddings):
        assert isinstance(rows, np.memmap)
        assert np.linalg.norm(rows.astype(np.float32), axis=1) == pytest.approx(1, abs=2e-3)


def test_the_model_is_freed_when_the_pool_has_been_read(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[weakref.ref[Any]] = []
    load = worker.ProbeWorker.__init__

    def recorded(self: Any, job: Any) -> None:
        load(self, job)
        opened.append(weakref.ref(self.vlm.base))

    monkeypatch.setattr(worker.ProbeWorker, "__init__", recorded)
    probe(replace(PARAMS, image_cache_mb=8))
    assert len(opened) == 1, "loaded once for all shards"
    assert opened[0]() is None


BATCHINGS = {
    "one shard": {"shard": 100, "window": 100},
    "one row per window": {"window": 1},
    "wide batches": {"token_budget": 4096, "shard": 100, "window": 100},
    "batches of one": {"token_budget": 1, "shard": 100, "window": 100},
    "batches of two": {"token_budget": 70, "shard": 100, "window": 100},
    "a vision cache": {"image_cache_mb": 8, "shard": 100, "window": 100},
    "a memory target": {"memory_mb": 64, "shard": 100, "window": 100},
}


@pytest.fixture
def four_threads() -> Iterator[None]:
    """Four threads, as torch uses on a machine with four cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    assert torch.get_num_threads() == 4, "the number of threads is the same after the probe"
    torch.set_num_threads(before)


@pytest.mark.parametrize("batching", BATCHINGS)
@pytest.mark.usefixtures("four_threads")
def test_how_rows_are_batched_changes_no_byte(usual: Features, probe: Probe, batching: str) -> None:
    other = probe(replace(PARAMS, **BATCHINGS[batching]))  # type: ignore[arg-type]
    assert other.record["rows read"] == len(usual.sample_ids)
    assert same_bytes(usual, other)


@pytest.mark.parametrize(("threads", "seen"), [(1, 1), (2, 2), (0, 4)])
@pytest.mark.usefixtures("four_threads")
def test_a_worker_uses_the_given_number_of_threads(
    probe: Probe, monkeypatch: pytest.MonkeyPatch, threads: int, seen: int
) -> None:
    read, found = worker.ProbeWorker.read, set()

    def recorded(self: Any, *args: Any) -> Any:
        found.add(torch.get_num_threads())
        return read(self, *args)

    monkeypatch.setattr(worker.ProbeWorker, "read", recorded)
    probe(replace(PARAMS, threads=threads))
    assert found == {seen}


def test_rows_that_depend_on_their_batch_are_warned_of_once(
    probe: Probe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    probe()
    assert "a product of" not in caplog.text
    monkeypatch.setattr(worker, "batch_dependence", lambda _vlm: "a product of 2 rows differs")
    probe(stream="other")
    assert caplog.text.count("a product of 2 rows differs") == 1


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"workers": 2, "loaders": 1}, {"workers": 2, "executor": "ray"}], ids=str)
@pytest.mark.usefixtures("cluster")
def test_workers_and_executors_change_no_byte(usual: Features, probe: Probe, options: dict[str, Any]) -> None:
    assert same_bytes(usual, probe(replace(PARAMS, **options)))


def test_the_order_of_shards_changes_no_byte(usual: Features, probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    """What two workers would read is read here, without their processes: the last shard first."""
    monkeypatch.setattr(executors, "load", lambda _name: last_task_first)
    assert same_bytes(usual, probe(replace(PARAMS, workers=2)))


def test_scores_fit_their_definitions(usual: Features, pool: Pool) -> None:
    scores = usual.scores
    assert scores["perplexity"].to_numpy() == pytest.approx(np.exp(scores["nll"].to_numpy()), rel=1e-4)
    without_pictures = pool.rows()["images"].map(len).to_numpy() == 0
    assert without_pictures.sum() == 2
    assert (scores["image_grounding"].to_numpy()[without_pictures] == 0).all()
    assert (scores["image_grounding"].to_numpy()[~without_pictures] != 0).all()


def test_the_pass_without_images_is_counted_and_can_be_switched_off(usual: Features, probe: Probe, pool: Pool) -> None:
    twice, once = usual, probe(replace(PARAMS, image_grounding=False))
    with_pictures = pool.rows()["images"].map(len).to_numpy() > 0
    tokens, again = (twice.scores[name].to_numpy() for name in ("tokens", "reread_tokens"))
    assert ((again > 0) == with_pictures).all()
    assert (again < tokens).all(), "images take tokens"
    assert (once.scores["reread_tokens"] == 0).all()
    assert "image_grounding" not in once.scores
    assert once.gradients.tobytes() == twice.gradients.tobytes()
    assert once.scores.drop(columns="reread_tokens").equals(twice.scores[once.scores.columns.drop("reread_tokens")])


def test_rows_on_disk_are_not_read_again(
    probe: Probe, pool: Pool, pictures: Pictures, warm_adapter: Adapter, tmp_path: Path
) -> None:
    first = probe()
    assert first.record["rows read"] == 8
    assert not list((tmp_path / "s/probe").rglob("*.safetensors")), "shards are deleted once the features are saved"
    again = probe()
    assert again.record["rows read"] == 0
    assert same_bytes(first, again)

    new = Source("more", "llava", [llava("a", ("Two?", "Three.")), llava("b", ("What is two plus two?", "Four."))], {})
    arrivals, _ = checked(new, pictures, round=2, first_id=8)
    grown = join_pool(pool, unread(arrivals), 2)
    second = probe(pool=grown, round=2)
    assert second.record["rows read"] == 1, "one is new, the other has the content of an earlier sample"
    assert second.gradients[:8].tobytes() == first.gradients.tobytes()
    assert second.gradients[9].tobytes() == first.gradients[0].tobytes()

    assert probe(replace(PARAMS, dim=128)).record["rows read"] == 8, "another spec gives other rows"
    assert probe(adapter=moved(warm_adapter, 0.1)).record["rows read"] == 8, "another adapter gives other rows"
    assert probe(replace(PARAMS, reuse="off")).record["rows read"] == 8


def test_drift_is_measured_and_decides_whether_older_rows_are_used(probe: Probe, warm_adapter: Adapter) -> None:
    first = probe()
    drifting = replace(PARAMS, reuse="drift", drift_limit=0.9)
    second = probe(drifting, adapter=moved(warm_adapter, 1e-3), round=2)
    sampled = int(second.record["drift"]["rows"])
    assert 0 < sampled < 8
    assert second.record["rows read"] == sampled
    assert second.record["drift"]["features, median cosine"] > 0.99
    stale = second.scores["stale"].to_numpy()
    assert stale.sum() == 8 - sampled
    assert second.gradients[stale].tobytes() == first.gradients[stale].tobytes()
    assert second.gradients[~stale].tobytes() != first.gradients[~stale].tobytes()

    third = probe(drifting, adapter=moved(warm_adapter, 1.0), round=3)
    assert third.record["drift"]["features, median cosine"] < 0.9
    assert third.record["rows read"] == 8
    assert not third.scores["stale"].any()

    exact = probe(adapter=moved(warm_adapter, 1e-3), round=2)
    assert exact.record["rows read"] == 8 - sampled, "rows of another adapter are not used without drift"
    assert not exact.scores["stale"].any()


def test_a_probe_that_failed_continues_where_it_stopped(
    usual: Features, probe: Probe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    read, calls = worker.ProbeWorker.read, []

    def fail_at_the_third(self: Any, samples: Any, pairs: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return read(self, samples, pairs)

    monkeypatch.setattr(worker.ProbeWorker, "read", fail_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        probe()
    monkeypatch.undo()
    (shard,) = (tmp_path / "s/probe").rglob("*.safetensors")
    resumed = probe()
    assert resumed.record["rows read"] == 5
    assert same_bytes(usual, resumed)
    shard.parent.mkdir(exist_ok=True)
    shard.write_bytes(b"damaged")
    assert same_bytes(usual, probe())


KILLED = """
import sys
from tests.features.killed import probe_until_killed
probe_until_killed(sys.argv[1])
"""


@pytest.mark.slow
def test_a_killed_probe_reads_at_most_one_shard_again(tmp_path: Path) -> None:
    """The process is killed while it writes shards of one row. Shards that it has finished are not read again."""
    from tests.features.killed import probe_stream

    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{PROJECT}:{PROJECT / 'src'}"}
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    process = subprocess.Popen(command, env=environment, cwd=PROJECT)
    store = tmp_path / "s/probe"
    deadline = time.monotonic() + 240
    while len(list(store.rglob("*.safetensors"))) < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {path: path.read_bytes() for path in store.rglob("*.safetensors")}
    assert len(finished) >= 3
    resumed = probe_stream(tmp_path, "s")
    assert resumed.record["rows read"] == len(resumed.sample_ids) - len(finished)
    assert same_bytes(resumed, probe_stream(tmp_path, "whole"))


def test_a_proxy_reads_in_place_of_the_base_model(
    usual: Features, probe: Probe, base_model: Checkpoint, warm_adapter: Adapter, tmp_path: Path
) -> None:
    write_adapter(warm_adapter, tmp_path / "proxy")
    through = replace(PARAMS, proxy=str(base_model.location), proxy_adapter=str(tmp_path / "proxy"))
    read = probe(through, adapter=moved(warm_adapter, 1.0), stream="proxy")
    assert same_bytes(usual, read)
    later = probe(through, adapter=moved(warm_adapter, 2.0), stream="proxy", round=2)
    assert later.record["rows read"] == 0, "the proxy's adapter does not change from round to round"


def test_without_gradients_the_row_is_the_embedding(probe: Probe) -> None:
    made = probe(replace(PARAMS, feature="embedding"))
    assert "grand" not in made.scores.columns
    assert made.gradients.tobytes() == made.embeddings.tobytes()


def test_a_fresh_adapter_is_probed_with_a_warning(
    probe: Probe, base_model: Checkpoint, model_params: ModelParams, caplog: pytest.LogCaptureFixture
) -> None:
    fresh = new_adapter(load_vlm(base_model, model_params), model_params, seed=0)
    made = probe(adapter=fresh)
    assert (made.scores["grand"] > 0).all()
    assert "no gradient reaches 7 weights (2.mlp.down_proj.lora_A is the first)" in caplog.text


WRONG: dict[str, dict[str, Any]] = {
    "probe.layers must lie in 0..3, got 9": {"layers": 9},
    "probe.layers must lie in 0..3, got -2": {"layers": [1, -2]},
    "probe.layers must be middle, all": {"layers": "top"},
    "probe.embedding_layer must lie in 0..3, got 4": {"embedding_layer": 4},
    "probe.executor must be local or ray, got 'cloud'": {"executor": "cloud"},
}


@pytest.mark.parametrize("message", WRONG)
@pytest.mark.usefixtures("unchecked")  # the signatures, which would refuse a wrong type first
def test_layers_and_executors_that_do_not_exist_are_refused(probe: Probe, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.").replace("[", r"\[")):
        probe(replace(PARAMS, **WRONG[message]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"reuse": "often"},
        {"drift_share": 0.0},
        {"workers": -1},
        {"shard": 0},
        {"proxy": "somewhere"},
        {"executor": "rya"},
    ],
    ids=str,
)
@pytest.mark.usefixtures("unchecked")  # the signatures, which would refuse a wrong type first
def test_wrong_parameters_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"probe\.{next(iter(wrong))}"):
        replace(PARAMS, **wrong)


@pytest.mark.parametrize("token_budget", [400, 1])
def test_a_sample_without_gradient_is_named(probe: Probe, monkeypatch: pytest.MonkeyPatch, token_budget: int) -> None:
    """It is named once, even if it was duplicated in its batch."""
    read_batch = vars(worker)["read_batch"]

    def without_gradient_of_last_row(*args: Any) -> Any:
        reading = read_batch(*args)
        reading.features.mul_((reading.features != reading.features[-1]).any(dim=1, keepdim=True))
        return reading

    monkeypatch.setattr(worker, "read_batch", without_gradient_of_last_row)
    with pytest.raises(ValueError, match=r"no usable gradient for samples \[\d\]"):
        probe(replace(PARAMS, token_budget=token_budget))


def test_several_layers_are_probed_together(usual: Features, probe: Probe) -> None:
    one, all_layers = usual, probe(replace(PARAMS, layers="all"))
    assert (all_layers.scores["grand"] > one.scores["grand"]).all()
    pd.testing.assert_series_equal(one.scores["nll"], all_layers.scores["nll"])


def test_adam_features_need_and_use_the_moments_of_a_training(
    probe: Probe,
    pool: Pool,
    pictures: Pictures,
    base_model: Checkpoint,
    warm_adapter: Adapter,
    model_params: ModelParams,
    tmp_path: Path,
) -> None:
    params = replace(PARAMS, gradient="adam")
    with pytest.raises(ValueError, match="train it once with this version"):
        probe(params)
    subset = pd.DataFrame({"sample_id": pool.index["sample_id"], "selected": True})
    trained, _, _ = train_adapter(
        *(pool, subset, pictures, base_model, warm_adapter, start_state(), tmp_path / "checkpoints"),
        *(model_params, TRAINING, DEFAULTS, 1),
    )
    write_adapter(trained, tmp_path / "adapter")
    made = probe(params, adapter=read_adapter(tmp_path / "adapter"))
    plain = probe(adapter=trained)
    assert (made.scores["grand"] == plain.scores["grand"]).all(), "the norm is the plain gradient's"
    cosines = (made.gradients.astype(np.float32) * plain.gradients).sum(axis=1)
    assert (np.abs(cosines) < 0.9).all()
