"""Figures of a round.

- `choice`: the composition of the subset, and a map of the pool
- `clusters`: the choice of k, and a sheet of clusters with their nearest samples
- `samples`: a sheet of samples
- `scores`: the score matrix, and scores over rounds
- `tasks`: the similarity of tasks, and the change of scores by each round
- `style`: colours and shared functions

Every function takes tables and returns a new `matplotlib.figure.Figure`, without pyplot and global state.
"""

from adapt_infinity.reporting.figures.choice import cluster_map, project, subset_composition
from adapt_infinity.reporting.figures.clusters import CLUSTERS, THUMBNAIL, THUMBNAILS, cluster_sheet, k_sweep_figure
from adapt_infinity.reporting.figures.samples import SHEET, sample_sheet
from adapt_infinity.reporting.figures.scores import forgetting_curves, score_heat_map
from adapt_infinity.reporting.figures.tasks import task_similarity_map

__all__ = [
    "CLUSTERS",
    "SHEET",
    "THUMBNAIL",
    "THUMBNAILS",
    "cluster_map",
    "cluster_sheet",
    "forgetting_curves",
    "k_sweep_figure",
    "project",
    "sample_sheet",
    "score_heat_map",
    "subset_composition",
    "task_similarity_map",
]
