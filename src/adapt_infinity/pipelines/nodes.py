"""Nodes that call functions of folders which do not import each other. The work itself is done in the folders."""

from pathlib import Path

import pandas as pd
import pyarrow.dataset as ds

from adapt_infinity.embedded.stream import EmbeddedStreamParams
from adapt_infinity.intake.arrivals import refuse_contamination
from adapt_infinity.intake.reading import IntakeParams
from adapt_infinity.pool.pool import Pool, join_pool
from adapt_infinity.pruning.protection import must_keep_rows
from adapt_infinity.pruning.removals import PruningParams


def join_arrivals(
    previous_kept_pool: Pool, arrivals: ds.Dataset, overlaps: pd.DataFrame, intake_params: IntakeParams, round: int
) -> Pool:
    """The pool of this round; `ValueError` when test items arrive and `intake.on_contamination` is `stop`."""
    refuse_contamination(overlaps, intake_params)
    return join_pool(previous_kept_pool, arrivals, round)


def list_must_keep(pool: Pool, project: Path, pruning_params: PruningParams) -> pd.DataFrame:
    """The samples that the user wants kept; a wrong name stops the round before it trains."""
    return must_keep_rows(pool, pruning_params.must_keep, pruning_params.pool_size, project)


def plan_embedded_stream(embedded_stream_params: EmbeddedStreamParams) -> EmbeddedStreamParams:
    """The stream's recipe. The dataset `embedded_stream` writes what it describes, file by file."""
    return embedded_stream_params
