"""What arrives in a round: its records are checked, and compared with the pool and the benchmarks.

Each function is a node of the pipelines: its arguments are catalog entries and parameters.
"""

from collections.abc import Iterator

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from adapt_infinity.data.pictures import Pictures
from adapt_infinity.intake.overlap import LEAKING_KINDS, find_overlaps
from adapt_infinity.intake.reading import IntakeParams, Source, check_records
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, load_reader
from adapt_infinity.model.prompts import PromptCheck
from adapt_infinity.pool.pool import Pool, known_ids

Tables = Iterator[pa.Table]


def read_arrivals(
    arriving_source: list[Source],
    pictures: Pictures,
    previous_kept_pool: Pool,
    base_model: Checkpoint,
    intake_params: IntakeParams,
    model_params: ModelParams,
    round: int,
) -> tuple[Tables, Tables]:
    """Arrivals and rejects of the one source that arrives in this round, as blocks to be written one after another.

    A record whose id the source has used in an earlier round is a reject, and so is one that does not fit the
    checkpoint's chat template or `model.max_tokens`.
    """
    (source,) = arriving_source
    return check_records(
        source,
        pictures,
        intake_params,
        round=round,
        first_id=previous_kept_pool.size,
        known_ids=set(known_ids(previous_kept_pool, source.name).to_pylist()),
        check_sample=PromptCheck(load_reader(base_model, model_params), pictures),
    )


def read_warm_up(
    first_source: list[Source],
    pictures: Pictures,
    base_model: Checkpoint,
    intake_params: IntakeParams,
    model_params: ModelParams,
) -> tuple[Tables, Tables]:
    """Records and rejects of the first arrival, from which genesis draws the samples of the adapter's warm-up."""
    (source,) = first_source
    check_sample = PromptCheck(load_reader(base_model, model_params), pictures)
    return check_records(source, pictures, intake_params, check_sample=check_sample)


def find_arrival_overlaps(
    arrivals: ds.Dataset, previous_kept_pool: Pool, benchmark_items: pd.DataFrame, intake_params: IntakeParams
) -> pd.DataFrame:
    """Arriving samples that resemble earlier samples or, worse, test items; see `overlap.py` for the columns."""
    return find_overlaps(arrivals, previous_kept_pool, benchmark_items, intake_params.near_bits)


def refuse_contamination(overlaps: pd.DataFrame, intake_params: IntakeParams) -> None:
    """Raise `ValueError` when test items are among the arrivals and `intake.on_contamination` is `stop`."""
    leaks = overlaps[overlaps["kind"].isin(LEAKING_KINDS)]
    if len(leaks) and intake_params.on_contamination == "stop":
        raise ValueError(
            f"{len(leaks)} arriving samples are test items of the benchmarks, the first: {leaks['source_id'].iloc[0]} "
            f"(item {leaks['other'].iloc[0]}); intake.on_contamination is stop"
        )
