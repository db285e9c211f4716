"""What a round looks like: the matrix R, forgetting, what was chosen, where it lies, what clusters are about.

Every function takes tables and returns a `matplotlib.figure.Figure` of its own (no pyplot, no global state).
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
