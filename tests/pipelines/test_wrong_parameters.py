"""Wrong parameters end every command in one line, before anything is made, read or trained."""

import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner
from kedro.framework.project import configure_project

from adapt_infinity.cli.lifelong import lifelong
from adapt_infinity.cli.study import study
from adapt_infinity.datasets.sources import check_source
from adapt_infinity.kedro_internals import split_params
from adapt_infinity.session import open_session

WRONG = {
    "subset.bugdet=3": "subset has no 'bugdet'; known: ",
    "subset.budget=0": "subset.budget must be at least 1, got 0",
    "subset.budget=many": "subset.budget must be a whole number (at least 1), got 'many'",
    "subset=3": "subset must be keys and values, got 3",
    "subsett.budget=3": "there is no section 'subsett' of the parameters; known: ",
    "training.chaining=continue": "training.chaining is called training.adapter_policy now",
    "methods.ewc.strenght=1": "methods.ewc has no 'strenght'; known: strength, variant, ",
    "methods.ewcc.strength=1": "methods has no 'ewcc'; known: agem, ",
    "tracking.enabled=maybe": "tracking.enabled must be true or false, got 'maybe'",
    "seed=-1": "seed must be at least 0, got -1",
    "round=two": "round must be a whole number, got 'two'",
    "embedded_stream.redundancy=1.5": "embedded_stream.redundancy must be at least 0 and less than 1, got 1.5",
}

COMMAND = click.Command("run")


@pytest.fixture(autouse=True)
def in_the_project(project: Path, monkeypatch: pytest.MonkeyPatch, unchecked: None) -> None:
    monkeypatch.chdir(project)
    configure_project("adapt_infinity")


def nothing_was_made(project: Path) -> bool:
    return not (project / "data").exists() and not (project / "mlflow.db").exists()


@pytest.mark.parametrize(
    "pipeline",
    [
        "round",
        *(pytest.param(other, marks=pytest.mark.slow) for other in ("round_random", "genesis", "embedded_stream")),
    ],
)
@pytest.mark.parametrize("words", WRONG)
def test_a_run_ends_before_it_begins(project: Path, pipeline: str, words: str) -> None:
    session = open_session(project, params=nested(words))
    with pytest.raises(ValueError, match=f"^{re.escape(WRONG[words])}") as error:
        session.run(pipeline_names=[pipeline])
    assert "\n" not in str(error.value)
    assert nothing_was_made(project)


@pytest.mark.parametrize("pipeline", ["round", "genesis"])
@pytest.mark.parametrize(
    "words", [next(iter(WRONG)), *(pytest.param(other, marks=pytest.mark.slow) for other in list(WRONG)[1:])]
)
def test_a_command_ends_with_the_same_message(project: Path, pipeline: str, words: str) -> None:
    session = open_session(project, params=nested(words))
    with pytest.raises(click.ClickException, match=f"^{re.escape(WRONG[words])}"), click.Context(COMMAND):
        session.run(pipeline_names=[pipeline])
    assert nothing_was_made(project)


@pytest.mark.parametrize(
    "words",
    [
        "subset.bugdet=3",
        pytest.param("training.chaining=continue", marks=pytest.mark.slow),
        pytest.param("subsett.budget=3", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        (lifelong, "--last", "1", "--params"),
        (lifelong, "--last", "1", "--strategy", "score:el2n", "--params"),
        (study, "--strategies", "random", "--seeds", "0,1", "--params"),
        (study, "--strategies", "random", "--name", "x", "--variant"),
    ],
    ids=["lifelong", "with a strategy", "study", "variant"],
)
def test_other_commands_end_before_they_begin(project: Path, command: tuple[Any, ...], words: str) -> None:
    called, *options = command
    asked = f"longer:{words}" if "--variant" in options else words
    done = CliRunner().invoke(called, [*options, asked])
    assert done.exit_code == 1, done.output
    assert done.output.strip().splitlines()[-1].startswith(f"Error: {WRONG[words]}")
    assert nothing_was_made(project)


def test_what_is_wrong_in_a_file_is_found_as_well(project: Path) -> None:
    local = project / "conf/local/parameters.yml"
    before = local.read_text()
    local.write_text(yaml.safe_dump({**yaml.safe_load(before), "probe": {"dim": "1024"}}))
    with pytest.raises(ValueError, match=r"^probe\.dim must be a whole number \(at least 1\), got '1024'$"):
        open_session(project).run(pipeline_names=["round"])
    local.write_text(before)


def nested(words: str) -> dict[str, Any]:
    """As `--params` reads them."""
    return dict(split_params(click.Context(COMMAND), None, words))


SOURCE = {"name": "toy", "format": "llava", "train": "toy.json"}
WRONG_SOURCES: dict[str, dict[str, Any]] = {
    "sources.toy has no 'grader'; known: ": {"grader": {"talk": "exact"}},
    "sources.toy.graders must be keys and values, got 'exact'": {"graders": "exact"},
    "sources.toy.format must be chat, ": {"format": "lava"},
    "sources.toy.limit must be at least 1, got 0": {"limit": 0},
    "sources.toy.duplicate_ids must be reject or number, got 'keep'": {"duplicate_ids": "keep"},
    "sources: an entry has no 'name': ": {"name": ""},
}


@pytest.mark.parametrize("message", WRONG_SOURCES)
def test_a_wrong_source_is_named(message: str) -> None:
    check_source(SOURCE)
    check_source({**SOURCE, "test": "", "limit": None, "options": {"anything": 1}})
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        check_source({**SOURCE, **WRONG_SOURCES[message]})


def test_sources_are_checked_before_a_run_begins(project: Path) -> None:
    declared = project / "conf/local/globals.yml"
    declared.write_text(yaml.safe_dump({"sources": [{**SOURCE, "grader": {}}]}))
    with pytest.raises(ValueError, match=r"^sources\.toy has no 'grader'"):
        open_session(project).run(pipeline_names=["round"])
    declared.unlink()
    assert nothing_was_made(project)
