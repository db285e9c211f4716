"""adapt-infinity: lifelong instruction tuning of vision-language models, round after round.

The functions for use from Python are those of `library.py`; they are imported when they are first used, so that
`import adapt_infinity` loads no torch.
"""

from typing import TYPE_CHECKING, Any

from adapt_infinity.reproducibility import ask_for_strict_products

if TYPE_CHECKING:
    from adapt_infinity.library import (
        Model,
        Samples,
        choose_experts,
        choose_removals,
        collect_features,
        find_pseudo_skills,
        load_model,
        measure_scores,
        open_pool,
        read_samples,
        score_samples,
        select_subset,
    )


__version__ = "0.1.0"
__all__ = [
    "Model",
    "Samples",
    "choose_experts",
    "choose_removals",
    "collect_features",
    "find_pseudo_skills",
    "load_model",
    "measure_scores",
    "open_pool",
    "read_samples",
    "score_samples",
    "select_subset",
]

ask_for_strict_products()  # every process that uses the package runs this line before its first matrix product


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from adapt_infinity import library

    return getattr(library, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
