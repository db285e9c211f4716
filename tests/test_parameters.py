"""Parameters: defaults equal conf/base, and whatever is wrong is refused in one line. Every dataclass of parameters is
found, so that the next one is tested too.
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from annotated_types import Ge, Gt, Le, Lt
from kedro.config import OmegaConfigLoader
from kedro.framework.project import configure_project

import adapt_infinity
from adapt_infinity import strategies
from adapt_infinity.configuration import check_parameters, sections
from adapt_infinity.parameters import RENAMED, OneOf, Satisfies, check, check_sections, from_mapping
from adapt_infinity.settings import CONFIG_LOADER_ARGS
from tests.conftest import PROJECT

configure_project("adapt_infinity")
pytestmark = pytest.mark.usefixtures("unchecked")  # the signatures, which would refuse a wrong type first

ENVIRONMENTS = sorted(path.name for path in (PROJECT / "conf").iterdir() if path.is_dir() and path.name != "local")


def dataclasses_of_parameters() -> dict[str, Any]:
    """Section → its dataclass, of all modules of the package; a dataclass that another one extends is not one."""
    found: dict[str, Any] = {}
    for module in pkgutil.walk_packages(adapt_infinity.__path__, f"{adapt_infinity.__name__}."):
        for kind in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(kind) and is_dataclass(kind) and hasattr(kind, "SECTION"):
                known = found.get(kind.SECTION, kind)
                found[kind.SECTION] = kind if issubclass(kind, known) else known
    return found


PARAMETERS = dataclasses_of_parameters()
FIELDS = [(kind, field.name) for kind in PARAMETERS.values() for field in fields(kind)]
HINTS = {kind: get_type_hints(kind, include_extras=True) for kind in PARAMETERS.values()}


def configured(env: str) -> dict[str, Any]:
    """The parameters of an environment, without those of conf/local."""
    args: dict[str, Any] = {**CONFIG_LOADER_ARGS, "default_run_env": "base"}
    loader = OmegaConfigLoader(conf_source=str(PROJECT / "conf"), env=env, runtime_params={}, **args)
    return dict(loader["parameters"])


def keys_of(tree: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Section → what stands there, with `methods.<name>` as sections of their own."""
    for key, value in tree.items():
        if key == "methods" and not above:
            yield from keys_of(value, "methods.")
        else:
            yield f"{above}{key}", value


# ---- defaults --------------------------------------------------------------------------------------------------------


def test_every_dataclass_of_parameters_is_read_somewhere() -> None:
    typed = {name: kind for name, kind in keys_of(sections()) if is_dataclass(kind)}
    assert typed == PARAMETERS


def test_every_section_of_conf_base_is_a_dataclass() -> None:
    single = {"round", "seed", "stream", "planned_skills"}
    assert {name for name, _ in keys_of(configured("base"))} == PARAMETERS.keys() | single


@pytest.mark.parametrize("section", PARAMETERS)
def test_conf_base_and_the_defaults_agree(section: str) -> None:
    """Key by key, in both directions, in type too: whoever reads conf/base reads the defaults."""
    written = dict(keys_of(configured("base")))[section]
    defaults = asdict(PARAMETERS[section]())
    assert written == defaults
    assert {key: type(value) for key, value in written.items()} == {key: type(v) for key, v in defaults.items()}


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_every_environment_is_valid(env: str) -> None:
    check_parameters(configured(env))


@pytest.mark.parametrize("strategy", strategies.names())
def test_what_a_strategy_presets_is_valid(strategy: str) -> None:
    check_parameters(strategies.merged(configured("base"), getattr(strategies.load(strategy), "PRESETS", {})))


# ---- every field of every dataclass ------------------------------------------------------------------------------


def alternatives(hint: Any) -> list[tuple[Any, tuple[Any, ...]]]:
    """The types that a field may have, each with what is further asked of it."""
    kind, conditions = (hint.__origin__, hint.__metadata__) if get_origin(hint) is Annotated else (hint, ())
    if get_origin(kind) in (Union, UnionType):
        return [each for alternative in get_args(kind) for each in alternatives(alternative)]
    return [(kind, conditions)]


def shapes(hint: Any) -> set[type]:
    """bool, int, float, str, list, dict: of which the value of a field may be."""
    kinds = [get_origin(kind) or kind for kind, _ in alternatives(hint)]
    return {str if kind is Literal else kind for kind in kinds} | ({int} if float in kinds else set())


def wrong_types(hint: Any) -> list[Any]:
    """A value of every type that the field may not have; NaN and infinity are no numbers."""
    values = {bool: True, int: 3, float: 2.5, str: "words", list: ["words", None], dict: {"words": None}}
    return [None, float("nan"), float("inf"), *(value for kind, value in values.items() if kind not in shapes(hint))]


def beyond(hint: Any) -> list[Any]:
    """Values just out of each bound, names that are none, and whatever else the field refuses."""
    refused: list[Any] = []
    for kind, conditions in alternatives(hint):
        if get_origin(kind) is Literal:
            refused.append("no such name")
        if get_origin(kind) is list:
            refused += [[value] for value in beyond(get_args(kind)[0])]
        for condition in conditions:
            limit: Any = getattr(condition, type(condition).__name__.lower(), None)
            match condition:
                case Ge():
                    refused.append(limit - 1)
                case Le():
                    refused.append(limit + 1)
                case Gt():
                    refused.append(limit)
                case Lt():
                    refused.append(limit)
                case OneOf():
                    refused.append("no such name")
                case Satisfies():
                    tried = [["a", "a"], []] if get_origin(kind) is list else ["no such thing", "cuda:", "("]
                    refused += [value for value in tried if not condition.accepts(value)]
    return refused


@pytest.mark.parametrize(("kind", "name"), FIELDS, ids=[f"{kind.SECTION}.{name}" for kind, name in FIELDS])
def test_a_wrong_value_is_named(kind: Any, name: str) -> None:
    hint = HINTS[kind][name]
    for value in [*wrong_types(hint), *beyond(hint)]:
        with pytest.raises(ValueError, match=rf"^(a key of )?{kind.SECTION}\.{name}\b.* must be .*, got ") as error:
            kind(**{name: value})
        shown = value[-1] if isinstance(value, list) and value and repr(value) not in str(error.value) else value
        assert repr(shown) in str(error.value) or isinstance(value, dict)
        assert "\n" not in str(error.value)


def test_every_condition_is_violated_once() -> None:
    """`beyond` knows how to violate whatever the fields ask for."""
    for kind, name in FIELDS:
        for _, conditions in alternatives(HINTS[kind][name]):
            for condition in conditions:
                assert beyond(Annotated[list[str] if "list" in str(condition) else str, condition]), (kind, name)


@pytest.mark.parametrize("kind", PARAMETERS.values(), ids=PARAMETERS)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(kind: Any) -> None:
    for name in (each.name for each in fields(kind)):
        wrong = name + "_"
        with pytest.raises(ValueError, match=rf"^{kind.SECTION} has no '{wrong}'; .* did you mean '{name}'\?$"):
            from_mapping(kind, {wrong: 1})
    with pytest.raises(ValueError, match=rf"^{kind.SECTION} has no 'SECTION'"):
        from_mapping(kind, {"SECTION": "other"})
    with pytest.raises(ValueError, match=rf"^{kind.SECTION} must be keys and values, got 3$"):
        from_mapping(kind, 3)
    assert from_mapping(kind, {}) == kind()


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_name_is_refused_and_the_new_one_named(old: str, new: str) -> None:
    (section, _, key), (today, _, name) = old.rpartition("."), new.rpartition(".")
    with pytest.raises(ValueError, match=rf"^{re.escape(old)} is called {re.escape(new)} now$"):
        from_mapping(PARAMETERS[section], {key: 1})
    assert name in {field.name for field in fields(PARAMETERS[today])}
    assert key not in {field.name for field in fields(PARAMETERS[section])}


# ---- the check itself ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Toy:
    SECTION: ClassVar[str] = "toy"

    size: Annotated[int, Ge(1)] = 1
    share: Annotated[float, Ge(0), Lt(1)] = 0.0
    rule: Annotated[str, OneOf(lambda: ["greedy", "random"])] = "greedy"
    k: Annotated[int, Ge(1)] | Literal["auto"] = "auto"
    names: str | list[str] = "all"
    floors: dict[Literal["source", "skill"], dict[str, Annotated[int, Ge(0)]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check(self)


MESSAGES = {
    "toy.size must be at least 1, got 0": {"size": 0},
    "toy.size must be a whole number (at least 1), got True": {"size": True},
    "toy.size must be a whole number (at least 1), got 1.0": {"size": 1.0},
    "toy.share must be at least 0 and less than 1, got 1": {"share": 1},
    "toy.share must be a number (at least 0 and less than 1), got '0.5'": {"share": "0.5"},
    "toy.share must be finite, got nan": {"share": float("nan")},
    "toy.rule must be greedy or random, got 'gready'; did you mean 'greedy'?": {"rule": "gready"},
    "toy.k must be a whole number (at least 1) or auto, got 0": {"k": 0},
    "toy.k must be a whole number (at least 1) or auto, got 'many'": {"k": "many"},
    "toy.names must be text, got 3": {"names": ["a", 3]},
    "toy.names must be text or a list, got 3": {"names": 3},
    "toy.floors.skill.vqa must be at least 0, got -1": {"floors": {"skill": {"vqa": -1}}},
    "a key of toy.floors must be source or skill, got 'skil'; did you mean 'skill'?": {"floors": {"skil": {}}},
}


@pytest.mark.parametrize("message", MESSAGES)
def test_what_is_said(message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Toy(**MESSAGES[message])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "given", [{"share": 0}, {"k": 3}, {"names": []}, {"names": ("a",)}, {"floors": {"source": {"charts": 0}}}]
)
def test_what_is_accepted(given: dict[str, Any]) -> None:
    assert {key: getattr(from_mapping(Toy, given), key) for key in given} == given


KNOWN = {"toy": Toy, "methods": {"ewc": Toy}, "round": int, "free": Any}
WRONG = {
    "there is no section 'tyo' of the parameters; known: toy, methods, round, free; did you mean 'toy'?": {"tyo": {}},
    "methods has no 'ewcc'; known: ewc; did you mean 'ewc'?": {"methods": {"ewcc": {}}},
    "methods must be keys and values, got None": {"methods": None},
    "round must be a whole number, got '1'": {"free": [], "round": "1"},
    "toy has no 'sise'; known: size, share, rule, k, names, floors; did you mean 'size'?": {"toy": {"sise": 1}},
}


@pytest.mark.parametrize("message", WRONG)
def test_all_sections_are_checked(message: str) -> None:
    check_sections({"toy": {"size": 2}, "methods": {"ewc": {}}, "round": 1}, KNOWN)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_sections(WRONG[message], KNOWN)
