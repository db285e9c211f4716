"""What Kedro needs to know of this project. See https://docs.kedro.org/en/stable/configure/configuration_basics/."""

import os

os.environ.setdefault("DO_NOT_TRACK", "true")  # no telemetry
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve each other on shared cores
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from adapt_infinity.hooks import RoundHooks
from adapt_infinity.intake import presets
from adapt_infinity.manifest import pictures_folder, planned_rounds, previous_round, probe_folder, round_folder
from adapt_infinity.session import RoundSession

SESSION_CLASS = RoundSession
HOOKS = (RoundHooks(),)
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "merge_strategy": {"parameters": "soft", "globals": "soft"},
    "custom_resolvers": {
        "round_folder": round_folder,
        "pictures_folder": pictures_folder,
        "probe_folder": probe_folder,
        "previous_round": previous_round,
        "planned_rounds": planned_rounds,
        "preset": presets.source,
        "environment": lambda name, default="": os.environ.get(name, default),
    },
}
