"""The registered pipelines, the catalog and the configuration fit together."""

import inspect
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import yaml
from kedro.framework.project import configure_project, pipelines, settings
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline

from adapt_infinity import strategies
from adapt_infinity.hooks import check_experts, check_method
from adapt_infinity.manifest import PREVIOUS
from adapt_infinity.model.checkpoint import Checkpoint
from adapt_infinity.model.lora import Adapter, write_adapter
from adapt_infinity.pipeline_registry import register_pipelines
from adapt_infinity.pipelines.stages import node
from adapt_infinity.reporting.results import FIGURES, STAGES, TABLES
from adapt_infinity.session import RoundSession, open_session
from adapt_infinity.study.costs import ModelSize, probe_flops
from adapt_infinity.study.round_cost import model_size, selection_flops
from tests.conftest import PROJECT


@pytest.fixture(scope="module")
def registered() -> dict[str, Pipeline]:
    return register_pipelines()


@pytest.fixture(scope="module")
def catalog() -> DataCatalog:
    bootstrap_project(PROJECT)
    loaded = open_session(PROJECT).load_context().catalog
    assert isinstance(loaded, DataCatalog)
    return loaded


def test_round_has_the_stages_in_order(registered: dict[str, Pipeline]) -> None:
    whole = registered["round"]
    assert registered["__default__"] is whole
    found = [str(node.namespace) for node in whole.nodes]
    assert sorted(set(found), key=STAGES.index) == list(STAGES)
    depth = {stage: max(_depth(whole, name) for name in _outputs_for_others(whole, stage)) for stage in STAGES}
    in_order = ["intake", "pool", "features", "pseudo_skills", "selector_experts", "subset", "training", "benchmarks"]
    assert [depth[stage] for stage in in_order] == sorted(depth[stage] for stage in in_order)


@pytest.mark.parametrize("strategy", strategies.names())
def test_strategy_runs_the_probe_only_if_it_reads_features(registered: dict[str, Pipeline], strategy: str) -> None:
    chosen, pipeline = strategies.load(strategy), registered[f"round_{strategy}"]
    read = {name for part in (chosen.select, chosen.keep) for name in inspect.signature(part).parameters}
    probes = "features.probe_pool" in [node.name for node in pipeline.nodes]
    assert probes == bool(read & {"features", "clusters", "cluster_experts"})
    assert {"adapter", "kept_pool", "score_matrix", "measures", "subset", "rejects"} <= pipeline.all_outputs()


def test_catalog_has_exactly_the_entries_in_use(registered: dict[str, Pipeline], catalog: DataCatalog) -> None:
    used = {name for pipeline in registered.values() for name in pipeline.datasets()}
    entries = {name for name in used if not name.startswith("params:") and name != "parameters"}
    declared = {name for name in catalog.keys() if not name.startswith("params:") and name != "parameters"}  # noqa: SIM118
    assert entries == declared
    assert not [name for name in entries if isinstance(catalog[name], MemoryDataset)]


def test_figures_and_tables_lie_in_the_layer_of_their_stage(
    registered: dict[str, Pipeline], catalog: DataCatalog
) -> None:
    makers = {name: node.namespace for node in registered["round"].nodes for name in node.outputs}
    stages = {name: result.stage for name, result in FIGURES.items()}
    stages |= {name: result.stage for name, result in TABLES.items()}
    for name, stage in stages.items():
        layer = f"{STAGES.index(stage) + 1} {stage.replace('_', ' ')}"
        assert makers[name] == stage, name
        entry: Any = catalog[name]
        assert entry.metadata["kedro-viz"]["layer"].replace("-", " ") == layer, name


@pytest.mark.parametrize("strategy", strategies.names())
def test_round_has_the_figures_whose_inputs_it_has(registered: dict[str, Pipeline], strategy: str) -> None:
    whole = registered[f"round_{strategy}"]
    chosen = strategies.load(strategy)
    clusters = any("clusters" in inspect.signature(part).parameters for part in (chosen.select, chosen.keep))
    for name, figure in FIGURES.items():
        assert (name in whole.all_outputs()) == (clusters or not figure.of_clusters), name


def test_a_node_reads_what_its_arguments_are_named_after() -> None:
    def function(pool: int, round: int, subset_params: int, params: int) -> int:
        return pool

    made = node(function, "found", params="params:probe")
    assert made.inputs == ["pool", "params:round", "params:subset", "params:probe"]
    assert made.name == "function"
    with pytest.raises(ValueError, match="function has no argument 'parms'; it has pool, round, subset_params, params"):
        node(function, "found", parms="params:probe")


def test_manifest_pins_all_entries_of_the_previous_round(registered: dict[str, Pipeline]) -> None:
    for name in strategies.names():
        read = {entry for entry in registered[f"round_{name}"].inputs() if entry.startswith("previous_")}
        assert read <= set(PREVIOUS)
    assert {entry for entry in registered["round"].inputs() if entry.startswith("previous_")} == set(PREVIOUS)


def test_every_parameter_is_used(registered: dict[str, Pipeline]) -> None:
    read = {
        name.split(":")[1]
        for pipeline in registered.values()
        for name in pipeline.inputs()
        if name.startswith("params:")
    }
    written = set()
    for file in (PROJECT / "conf/base").glob("parameters*.yml"):
        written |= set(yaml.safe_load(file.read_text()))
    by_hooks = {"stream", "tracking"}  # read by session and hooks, not by nodes
    assert written - by_hooks == read


UNTYPED = ("params:round", "params:seed", "params:planned_skills", "params:methods")  # the last: see `check_method`


@pytest.mark.parametrize("name", ["genesis", "round", "embedded_stream", "embedded_model"])
def test_parameters_are_typed(registered: dict[str, Pipeline], name: str) -> None:
    """A typo in a stage's parameters stops the run before any node: each is read into a dataclass of its own."""
    for made in registered[name].nodes:
        hints = inspect.signature(made.func).parameters.values()
        for entry, hint in zip(made.inputs, hints, strict=True):
            if entry.startswith("params:") and entry not in UNTYPED:
                assert hasattr(hint.annotation, "__dataclass_fields__"), (made.name, entry)


def test_wrong_method_settings_are_errors_before_any_node_runs() -> None:
    settings = yaml.safe_load((PROJECT / "conf/base/parameters_methods.yml").read_text())["methods"]
    check_method({"method": "ewc", "adapter_policy": "continue"}, settings)
    with pytest.raises(ValueError, match=r"methods.ewc has no 'strenght'; known: strength, variant"):
        check_method({"method": "ewc", "adapter_policy": "continue"}, {"ewc": {**settings["ewc"], "strenght": 1.0}})
    check_method({"method": "ewc", "adapter_policy": "continue"}, {"ewc": {"strength": 1.0}})  # the rest has defaults
    with pytest.raises(ValueError, match=r"methods.ewc.decay must be at least 0 and at most 1, got 2.0"):
        check_method({"method": "ewc", "adapter_policy": "continue"}, {"ewc": {"decay": 2.0}})
    with pytest.raises(ValueError, match=r"training.method=ewc needs training.adapter_policy=continue"):
        check_method({"method": "ewc", "adapter_policy": "merge_then_new"}, settings)


def test_unavailable_scores_are_errors_before_the_probe_runs() -> None:
    probe = {"feature": "gradient", "image_grounding": True}
    check_experts(["grand", "image_grounding", "uniqueness"], probe)
    check_experts(["el2n"], {"feature": "embedding", "image_grounding": False})
    with pytest.raises(ValueError, match=r"names 'image_grounding', which needs probe\.image_grounding=true"):
        check_experts(["el2n", "image_grounding"], {**probe, "image_grounding": False})
    with pytest.raises(ValueError, match=r"names 'grand', which needs probe\.feature=gradient"):
        check_experts(["grand"], {**probe, "feature": "embedding"})


def test_selection_costs_include_everything_that_is_read() -> None:
    """N = 100. Two samples of 10 and 20 tokens; validation samples of 7; the second sample's loss under a reference."""
    scores = pd.DataFrame({"sample_id": [0, 4], "tokens": [10, 20], "reread_tokens": [0, 15], "stale": [False, False]})
    features = SimpleNamespace(scores=scores, spec={"spec": {"feature": "embedding", "layers": [1], "dim": 8}})
    tables = {
        "targets": pd.DataFrame({"skill": ["a", "b"], "tokens": [3, 4]}),
        "reference_scores": pd.DataFrame({"sample_id": [0, 4], "nll": [1.0, 1.0]}),
        "pool_rows": pd.DataFrame({"sample_id": [0, 4], "round": [1, 2]}),
    }
    catalog = DataCatalog({name: MemoryDataset(table) for name, table in tables.items()})
    size, params = ModelSize(layers=4, weights=100, adapter=10), {"probe": {"proxy": ""}, "round": 2}
    assert selection_flops(size, features, set(), catalog.load, params) == 200 * (30 + 15)
    assert selection_flops(size, features, {"targets"}, catalog.load, params) == 200 * (45 + 7)
    assert selection_flops(size, features, set(tables), catalog.load, params) == 200 * (45 + 7 + 20)
    shortlisted = {**tables, "pool_rows": pd.DataFrame({"sample_id": [0, 4, 5], "round": [1, 2, 2]})}
    catalog = DataCatalog({name: MemoryDataset(table) for name, table in shortlisted.items()})
    assert selection_flops(size, features, set(tables), catalog.load, params) == 200 * (45 + 7 + 20), (
        "sample 5 was not read"
    )


def test_selection_costs_of_a_proxy_use_its_size(base_model: Checkpoint, warm_adapter: Adapter, tmp_path: Path) -> None:
    scores = pd.DataFrame({"tokens": [10], "reread_tokens": [0], "stale": [False]})
    features = SimpleNamespace(scores=scores, spec={"spec": {"feature": "gradient", "layers": [2], "dim": 8}})
    write_adapter(warm_adapter, tmp_path / "proxy")
    probe = {"proxy": str(base_model.location), "proxy_adapter": str(tmp_path / "proxy")}
    small, large = model_size(base_model, warm_adapter), ModelSize(layers=4, weights=10**9, adapter=10**6)
    found = selection_flops(large, features, set(), DataCatalog({}).load, {"probe": probe})
    assert found == probe_flops(small, features.spec["spec"], 10) > 0


def test_configuration_of_the_embedded_stream_agrees_with_its_code() -> None:
    from adapt_infinity.embedded.stream import ARRIVALS, BASE, SKILLS

    sources = yaml.safe_load((PROJECT / "conf/base/globals.yml").read_text())["sources"]
    assert [source["name"] for source in sources if "train" in source] == list(ARRIVALS)
    assert [source["name"] for source in sources if "train" not in source] == [BASE]
    for source in sources:
        made = {skill: row for skill, row in SKILLS.items() if row.dataset == source["name"]}
        assert source["graders"] == {skill: row.grader for skill, row in made.items()}
        assert source.get("rare", []) == [skill for skill, row in made.items() if row.rare]


def test_kedro_finds_the_settings() -> None:
    configure_project("adapt_infinity")
    assert settings.SESSION_CLASS is RoundSession
    assert "round" in pipelines


def test_every_environment_loads() -> None:
    for env in sorted(path.name for path in (PROJECT / "conf").iterdir() if path.is_dir() and path.name != "base"):
        session = open_session(PROJECT, env)
        names = [source["name"] for source in session._globals()["sources"]]
        assert len(names) == len(set(names)) > 0
        assert session.load_context().catalog["pictures"] is not None


def _outputs(pipeline: Pipeline, stage: str) -> set[str]:
    return {name for node in pipeline.nodes if node.namespace == stage for name in node.outputs}


def _outputs_for_others(pipeline: Pipeline, stage: str) -> set[str]:
    """The outputs of a stage that other stages read; if there are none, all its outputs."""
    read = {name for node in pipeline.nodes if node.namespace != stage for name in node.inputs}
    return _outputs(pipeline, stage) & read or _outputs(pipeline, stage)


def _depth(pipeline: Pipeline, name: str) -> int:
    makers = [node for node in pipeline.nodes if name in node.outputs]
    return 1 + max((_depth(pipeline, entry) for node in makers for entry in node.inputs), default=0)


def test_configuration_has_no_absolute_path() -> None:
    for file in (PROJECT / "conf").rglob("*.yml"):
        if "local" not in Path(file).parts:
            assert not re.search(r"(filepath|data): /", file.read_text()), file
