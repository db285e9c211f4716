"""Parameters are checked here, and only here: unknown keys, old names, types, bounds and choices.

A section of the parameters (`subset:` in conf/base/parameters_subset.yml) is a frozen dataclass. Its fields say what
they accept, and have the defaults of conf/base; the YAML overrides them:

    @dataclass(frozen=True, kw_only=True)
    class WarmUpParams:
        SECTION: ClassVar[str] = "warm_up"

        samples: Annotated[int, Ge(1)] = 64
        method: Annotated[str, OneOf(methods.names)] = "finetune"

        def __post_init__(self) -> None:
            check(self)

A type is bool, int, float, str, a `Literal`, `list[...]`, `dict[str, ...]` or a union of these. `Annotated` adds bounds
(`Ge`, `Gt`, `Le`, `Lt` of annotated_types), the names of files in a folder (`OneOf`) or any other condition
(`Satisfies`). Whatever is wrong is a `ValueError` of one line that names the key in the YAML and the value:
`warm_up.samples must be at least 1, got 0`. A `__post_init__` checks by itself only how two fields relate.
"""

import hashlib
import json
import math
import operator
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    Protocol,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    runtime_checkable,
)

from annotated_types import Ge, Gt, Le, Lt

RENAMED = {
    "training.chaining": "training.adapter_policy",
    "pseudo_skills.engine": "pseudo_skills.backend",
    "embedded_model.seeing_steps": "embedded_model.stage_1_steps",
    "embedded_model.seeing_lr": "embedded_model.stage_1_lr",
    "embedded_model.steps": "embedded_model.stage_2_steps",
    "embedded_model.lr": "embedded_model.stage_2_lr",
    "embedded_model.talking_steps": "embedded_model.stage_3_steps",
    "embedded_model.talking_lr": "embedded_model.stage_3_lr",
    "embedded_model.practising_steps": "embedded_model.stage_4_steps",
    "embedded_model.practising_lr": "embedded_model.stage_4_lr",
    "embedded_model.talk": "embedded_model.described",
}
"""Old name of a parameter → its name today. An old name is refused, and the new one named."""


@dataclass(frozen=True)
class OneOf:
    """The value is one of these names, or of those that the function returns when a value is checked."""

    known: Sequence[str] | Callable[[], Sequence[str]]

    def names(self) -> Sequence[str]:
        """All of them."""
        return self.known() if callable(self.known) else self.known


@dataclass(frozen=True)
class Satisfies:
    """Any other condition. `wanted` ends the sentence "subset.seed must be …"."""

    accepts: Callable[[Any], object]
    wanted: str


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


Device = Annotated[str, Satisfies(re.compile(r"auto|cpu|cuda(:\d+)?").fullmatch, "auto, cpu, cuda or cuda:<number>")]
PositiveInt = Annotated[int, Ge(1)]
NonNegativeInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
Seed = NonNegativeInt
Share = Annotated[float, Ge(0), Le(1)]
RegularExpression = Annotated[str, Satisfies(_compiles, "a regular expression")]
Distinct = Satisfies(lambda values: len(set(values)) == len(values), "a list without repetitions")
NotEmpty = Satisfies(bool, "a list of at least one")


@runtime_checkable
class Section(Protocol):
    """A dataclass of parameters; SECTION is the key of the YAML under which they stand."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    SECTION: ClassVar[str]


UNIONS = (Union, types.UnionType)
BOUNDS: dict[type, tuple[Callable[[Any, Any], bool], str]] = {
    Ge: (operator.ge, "at least"),
    Gt: (operator.gt, "greater than"),
    Le: (operator.le, "at most"),
    Lt: (operator.lt, "less than"),
}
IN_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}

P = TypeVar("P")


def check(params: Section) -> None:
    """`ValueError` for the first field whose value is not what its annotation says."""
    hints = get_type_hints(type(params), include_extras=True)
    for field in fields(params):
        wrong = fault(f"{params.SECTION}.{field.name}", getattr(params, field.name), hints[field.name])
        if wrong:
            raise ValueError(wrong)


def from_mapping(kind: type[P], given: object) -> P:
    """The `Section` with the given values; what is not given has its default. `ValueError` as `check`.

    An unknown key is refused with the nearest known one, a renamed key with its new name.
    """
    section: Any = kind
    values = _keys_and_values(section.SECTION, given)
    for key in values:
        _check_key(section.SECTION, key, [field.name for field in fields(section)])
    return kind(**values)


def check_sections(given: object, known: Mapping[str, Any], above: str = "") -> None:
    """Check parameters as they stand in the YAML: `ValueError`, in one line, for the first thing that is wrong.

    `known` has for every key a `Section`, the type of a value that is no section (as the field of one would have), or
    a mapping of further keys. `above` is the key under which all of them stand.
    """
    values = _keys_and_values(above or "parameters", given)
    for key in values:
        _check_key(above, key, known)
    for key in sorted(values, key=lambda key: is_dataclass(known[key])):  # a seed that is wrong is so in every section
        value = values[key]
        expected, name = known[key], f"{above}.{key}" if above else key
        if isinstance(expected, Mapping):
            check_sections(value, expected, name)
        elif is_dataclass(expected):
            from_mapping(expected, value)  # type: ignore[arg-type]
        elif wrong := fault(name, value, expected):
            raise ValueError(wrong)


def parameters_hash(params: Mapping[str, Any]) -> str:
    """SHA-256 hash of all parameters that can change a round's results, that is, all but `tracking`.

    A renamed parameter counts under its old name: rounds that were made before go on as complete. No round reads
    `embedded_model`, which has more keys than when the first rounds were made: only its seed counts, as then.
    """
    relevant = {name: value for name, value in params.items() if name != "tracking"}
    if "embedded_model" in relevant:
        relevant["embedded_model"] = {"seed": relevant["embedded_model"]["seed"]}
    for old, new in RENAMED.items():
        section, key = new.split(".")
        if key in (values := relevant.get(section) or {}):
            relevant[section] = {old.split(".")[1] if name == key else name: value for name, value in values.items()}
    return hashlib.sha256(json.dumps(relevant, default=str, sort_keys=True).encode()).hexdigest()


def fault(name: str, value: object, expected: Any) -> str:
    """What is wrong with the value of the parameter `name`, in one sentence; "" where nothing is.

    `expected` is a type as the module's docstring lists them. Of a list and a dict, every element is checked.
    """
    kind, conditions = _unwrapped(expected)
    shape, inside = get_origin(kind) or kind, get_args(kind)
    if kind is Any:
        return ""
    if shape in UNIONS:
        return _fault_of_union(name, value, inside)
    if not _is_a(value, shape, inside):
        return _sentence(name, _wanted(expected), value)
    for element in _elements(name, value, inside):
        if wrong := fault(*element):
            return wrong
    if isinstance(value, float) and not math.isfinite(value):
        return _sentence(name, ["finite"], value)
    failed = [condition for condition in conditions if not _holds(condition, value)]
    if not failed:
        return ""
    bounds = [condition for condition in conditions if type(condition) in BOUNDS]
    return _sentence(name, _choices(failed) or [_in_words(bounds if failed[0] in bounds else failed)], value)


def _fault_of_union(name: str, value: object, alternatives: Sequence[Any]) -> str:
    """A list is said to be wrong as a list, if it could be one; all else as what it could have been."""
    faults = [fault(name, value, each) for each in alternatives]
    if "" in faults:
        return ""
    for each, wrong in zip(alternatives, faults, strict=True):
        shape = get_origin(_unwrapped(each)[0])
        if shape in (list, dict) and _is_a(value, shape, ()):
            return wrong
    return _sentence(name, [words for each in alternatives for words in _wanted(each)], value)


def _elements(name: str, value: object, inside: Sequence[Any]) -> Iterator[tuple[str, object, Any]]:
    """What a list or a dict holds: a name for messages, the value, and what it should be."""
    if isinstance(value, dict):
        for key, held in value.items():
            yield f"a key of {name}", key, inside[0]
            yield f"{name}.{key}", held, inside[1]
    elif isinstance(value, list | tuple):
        for held in value:
            yield name, held, inside[0]


def _unwrapped(expected: Any) -> tuple[Any, tuple[Any, ...]]:
    """The type, and what `Annotated` says about it."""
    if get_origin(expected) is Annotated:
        kind, *conditions = get_args(expected)
        return kind, tuple(conditions)
    return expected, ()


def _is_a(value: object, shape: Any, inside: tuple[Any, ...]) -> bool:
    """Whether the value itself has the type; what it holds is not looked at. A bool is no number here."""
    if shape is Literal:
        return any(type(value) is type(choice) and value == choice for choice in inside)
    if shape is list:
        return isinstance(value, list | tuple)
    if shape is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if shape is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, shape)


def _holds(condition: Any, value: Any) -> bool:
    if isinstance(condition, OneOf):
        return value in condition.names()
    if isinstance(condition, Satisfies):
        return bool(condition.accepts(value))
    compare, _ = BOUNDS[type(condition)]
    return compare(value, _limit(condition))


def _limit(bound: Any) -> Any:
    """The number in a bound: `Ge(1)` keeps it as `ge`."""
    return getattr(bound, type(bound).__name__.lower())


def _choices(conditions: Iterable[Any]) -> list[str]:
    return [name for condition in conditions if isinstance(condition, OneOf) for name in condition.names()]


def _in_words(conditions: Iterable[Any]) -> str:
    return " and ".join(
        condition.wanted if isinstance(condition, Satisfies) else f"{BOUNDS[type(condition)][1]} {_limit(condition)}"
        for condition in conditions
    )


def _wanted(expected: Any) -> list[str]:
    """All that a value may be, in words: for [] of type `Annotated[int, Ge(1)] | Literal["auto"]`, a number or auto."""
    kind, conditions = _unwrapped(expected)
    shape, inside = get_origin(kind) or kind, get_args(kind)
    if shape in UNIONS:
        return [each for alternative in inside for each in _wanted(alternative)]
    if shape is Literal:
        return [str(choice) for choice in inside]
    if choices := _choices(conditions):
        return choices
    if shape in (list, dict):
        return ["a list" if shape is list else "keys and values"]
    words = _in_words(conditions)
    return [words if shape is str and words else f"{IN_WORDS[shape]} ({words})" if words else IN_WORDS[shape]]


def _sentence(name: str, wanted: Sequence[str], value: object) -> str:
    *others, last = wanted
    listed = f"{', '.join(others)} or {last}" if others else last
    return f"{name} must be {listed}, got {value!r}{_nearest(value, wanted)}"


def _nearest(word: object, known: Iterable[str]) -> str:
    """A question that ends a message: which of the known words may have been meant."""
    near = get_close_matches(str(word), known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _keys_and_values(name: str, given: object) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise ValueError(f"{name} must be keys and values, got {given!r}")
    return dict(given)


def _check_key(section: str, key: object, known: Iterable[str]) -> None:
    """`ValueError` for a key that the section does not have."""
    name = f"{section}.{key}" if section else str(key)
    if name in RENAMED:
        raise ValueError(f"{name} is called {RENAMED[name]} now")
    names = list(known)
    if key not in names:
        lacking = f"{section} has no {key!r}" if section else f"there is no section {key!r} of the parameters"
        raise ValueError(f"{lacking}; known: {', '.join(names)}{_nearest(key, names)}")
