"""Nearest centroids by faiss: an exact inner-product index over the centroids (Douze et al. 2024, arXiv:2401.08281)."""

from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor

from adapt_infinity.pseudo_skills.backends import COSINE_ERROR, NO_COSINE, FindNearest, LabelsAndBounds


def searcher(centroids: Float32[Tensor, "k dim"], device: torch.device) -> FindNearest:
    """An index of the centroids, on a GPU if `device` is one; see the package for what the search returns.

    `ValueError` if `device` is a GPU and faiss was built without GPU support; `ImportError` if faiss is not installed.
    """
    faiss = _faiss()
    index = faiss.IndexFlatIP(centroids.shape[1])
    if device.type == "cuda":
        if not hasattr(faiss, "StandardGpuResources"):
            raise ValueError("pseudo_skills.backend: this faiss has no GPU support; use backend: torch or device: cpu")
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), device.index or 0, index)
    index.add(centroids.cpu().numpy())
    neighbours = min(2, len(centroids))

    def nearest(rows: Float32[Tensor, "m dim"]) -> LabelsAndBounds:
        faiss.omp_set_num_threads(1)  # OpenMP keeps this setting per thread, so each calling thread sets it
        cosines, labels = (torch.from_numpy(result) for result in index.search(rows.cpu().numpy(), neighbours))
        second = cosines[:, 1] if neighbours == 2 else torch.full_like(cosines[:, 0], NO_COSINE)
        return labels[:, 0].to(device), cosines[:, 0].to(device) - COSINE_ERROR, second.to(device) + COSINE_ERROR

    return nearest


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise ImportError('pseudo_skills.backend: faiss needs pip install "adapt-infinity[cpu]"') from None
    return faiss
