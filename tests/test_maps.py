"""What pages and docstrings say of files, folders and parameters is true: each is there, and none is left out."""

import ast
import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import PROJECT

SOURCE = PROJECT / "src/adapt_infinity"
STAGES = (
    *("intake", "pool", "features", "pseudo_skills", "selector_experts", "subset", "training", "pruning", "benchmarks"),
)
PAGES = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")])
HISTORY = {"CHANGELOG.md"}  # names files that are gone
SUFFIXES = (".py", ".yml", ".md", ".toml", ".ipynb", ".svg", ".cff")
MADE = ("data/", "mlruns/", "site/")  # made by a run or a build
EXAMPLES = set(re.findall(r"^`src/adapt_infinity/(\S+)`", (PROJECT / "docs/adding.md").read_text(), re.MULTILINE))
PRESETS = "\n".join(path.read_text() for path in (SOURCE / "intake/presets").glob("*.yml"))


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def named_paths(text: str) -> Iterator[str]:
    """What looks like a file or a folder among the words in code type; a folder ends with a slash."""
    for name in re.findall(r"`([\w./-]+)`", text):
        if name.endswith(SUFFIXES) or (name.endswith("/") and not name.startswith("/")):
            yield name


def is_there(name: str, *bases: Path) -> bool:
    """Whether one of the bases has it."""
    return any((base / name).exists() for base in bases)


def is_of_a_dataset(name: str) -> bool:
    """Whether a preset says that the user puts it there."""
    return re.search(rf"(?<![\w/]){re.escape(name.rstrip('/'))}(?![\w])", PRESETS) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    if page.name in HISTORY:
        return
    bases = (page.parent, PROJECT, SOURCE, SOURCE / page.stem.removeprefix("your_"))
    wrong = [
        name
        for name in named_paths(prose(page))
        if not is_there(name, *bases)
        and not name.startswith(MADE)
        and name.removeprefix("src/adapt_infinity/") not in EXAMPLES
        and not is_of_a_dataset(name)
    ]
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s#:]+)(?:#[^)\s]*)?\)", prose(page)) + re.findall(r'<img src="([^":]+)"', prose(page))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda file: str(file.relative_to(SOURCE)))
def test_every_file_that_a_docstring_names_is_there(file: Path) -> None:
    text = file.read_text()
    docstring = ast.get_docstring(ast.parse(text)) or ""
    own = docstring.split("\nSource: ")[0]  # files of published datasets
    listed = re.findall(r"^\s*([\w/]+(?:\.py|\.yml|/))(?:, ([\w/]+\.py))?\s{2,}\S", own, re.MULTILINE)
    named = {
        *re.findall(r"(?<![\w/*{.-])([\w/]+\.(?:py|yml))\b", own),
        *(name for pair in listed for name in pair if name),
    }
    named |= set(re.findall(r"\bdocs/[\w/]+\.md\b", re.sub(r".*(?:github\.com|^Source).*", "", text)))
    named |= set(re.findall(r"`([\w/]+/)`", own))
    bases = (file.parent, *[parent for parent in file.parents if SOURCE in (parent, *parent.parents)], PROJECT)
    bases += (PROJECT / "conf/base",)
    assert sorted(name for name in named if not is_there(name, *bases)) == []


@pytest.mark.parametrize("stage", STAGES)
def test_every_file_of_a_stage_is_in_a_table_of_its_page(stage: str) -> None:
    rows = set(re.findall(r"^\| `([^`]+)`", (PROJECT / f"docs/{stage}.md").read_text(), re.MULTILINE))
    missing = []
    for file in sorted((SOURCE / stage).rglob("*")):
        inside = file.relative_to(SOURCE / stage)
        if file.suffix not in (".py", ".yml") or file.name == "__init__.py":
            continue
        names = {inside.name} if len(inside.parts) == 1 else {str(inside), inside.stem}
        if not names & rows:
            missing.append(str(inside))
    assert missing == []


@pytest.mark.parametrize("stage", [*STAGES, "model"])
def test_every_parameter_of_a_stage_is_explained_on_its_page(stage: str) -> None:
    file = PROJECT / f"conf/base/parameters_{stage}.yml"
    page = (PROJECT / "docs" / {"model": "your_model.md"}.get(stage, f"{stage}.md")).read_text()
    if not file.exists():
        assert stage == "pool", "only the pool has no parameters of its own"
        return
    text = re.sub(r"\$\{[^}]*\}", "resolved", file.read_text())
    for group, values in yaml.safe_load(text).items():
        assert [key for key in values if f"`{key}`" not in page] == [], group


@pytest.mark.parametrize("stage", [*STAGES, "model"])
def test_the_defaults_on_a_page_are_those_of_the_configuration(stage: str) -> None:
    file = PROJECT / f"conf/base/parameters_{stage}.yml"
    page = (PROJECT / "docs" / {"model": "your_model.md"}.get(stage, f"{stage}.md")).read_text()
    groups = yaml.safe_load(re.sub(r"\$\{.*\}", "resolved", file.read_text())) if file.exists() else {}
    sections = re.findall(r"^## (?:The p|P)arameters\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \| [^|]*\|$", "".join(sections), re.MULTILINE)
    for key, default in rows:
        configured = [values[key] for values in groups.values() if key in values]
        shown = [", ".join(value) if isinstance(value, list) and value else value for value in configured]
        if configured and default not in ("the stream's", "a regular expression"):
            assert yaml.safe_load(default) in shown, key


def test_every_setting_of_a_method_is_explained() -> None:
    methods = yaml.safe_load((PROJECT / "conf/base/parameters_methods.yml").read_text())["methods"]
    page = (PROJECT / "docs/training.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `") and line.count("|") == 4]
    for method, settings in methods.items():
        own = [row for row in rows if f"`{method}`" in row.split("|")[2]]
        assert [key for key in settings if not any(f"`{key}`" in row.split("|")[1] for row in own)] == [], method


def test_the_page_on_architecture_has_the_floors_of_the_import_contract() -> None:
    contracts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (floors,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    assert "```text\n" + "\n".join(floors) + "\n```" in (PROJECT / "docs/architecture.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_name_that_an_example_imports_is_there(page: Path) -> None:
    for code in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("adapt_infinity"):
                module = importlib.import_module(node.module or "")
                assert [name.name for name in node.names if not hasattr(module, name.name)] == [], node.module


def test_every_stage_of_the_round_has_all_that_belongs_to_it() -> None:
    """Stage = folder = parameter file = test folder = page = API page."""
    for stage in STAGES:
        assert (SOURCE / stage / "__init__.py").is_file(), stage
        assert (PROJECT / "tests" / stage).is_dir(), stage
        assert (PROJECT / "docs" / f"{stage}.md").is_file(), stage
        assert (PROJECT / "docs/api" / f"{stage}.md").is_file(), stage
        assert (PROJECT / f"conf/base/parameters_{stage}.yml").is_file() or stage == "pool", stage
