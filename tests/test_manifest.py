"""What a round's manifest holds about its parameters."""

import hashlib
import json

from adapt_infinity.parameters import parameters_hash


def test_a_round_that_was_made_before_a_parameter_was_renamed_stays_complete() -> None:
    """Its hash is that of the old name; another value has another hash, and tracking has no influence."""
    today = {"training": {"adapter_policy": "continue", "epochs": 3}, "tracking": {"enabled": True}, "seed": 0}
    before = {"training": {"chaining": "continue", "epochs": 3}, "seed": 0}
    expected = hashlib.sha256(json.dumps(before, sort_keys=True).encode()).hexdigest()
    assert parameters_hash(today) == expected
    assert parameters_hash({**today, "training": {"adapter_policy": "merge_then_new", "epochs": 3}}) != expected


def test_of_the_embedded_models_parameters_only_the_seed_counts() -> None:
    """conf/base lists more of them than when the first rounds were made, and no round reads them."""
    made = parameters_hash({"embedded_model": {"seed": 0}, "seed": 0})
    assert parameters_hash({"embedded_model": {"seed": 0, "stage_1_steps": 900}, "seed": 0}) == made
    assert parameters_hash({"embedded_model": {"seed": 1, "stage_1_steps": 900}, "seed": 0}) != made
