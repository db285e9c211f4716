"""Faiss: an exact inner-product index over the centroids (Douze et al. 2024, arXiv:2401.08281)."""

from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor

from adapt_infinity.pseudo_skills.backends import NONE, SLACK, Found, Nearest


def searcher(centroids: Float32[Tensor, "k dim"], device: torch.device) -> Nearest:
    """On a GPU if faiss was built for one; `ValueError` if not, `ImportError` where faiss is not installed."""
    faiss = _faiss()
    index = faiss.IndexFlatIP(centroids.shape[1])
    if device.type == "cuda":
        if not hasattr(faiss, "StandardGpuResources"):
            raise ValueError("pseudo_skills.backend: this faiss has no GPU support; use backend: torch or device: cpu")
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), device.index or 0, index)
    index.add(centroids.cpu().numpy())
    neighbours = min(2, len(centroids))

    def nearest(rows: Float32[Tensor, "m dim"]) -> Found:
        faiss.omp_set_num_threads(1)  # holds for the thread that calls
        cosines, labels = (torch.from_numpy(found) for found in index.search(rows.cpu().numpy(), neighbours))
        following = cosines[:, 1] if neighbours == 2 else torch.full_like(cosines[:, 0], NONE)
        return labels[:, 0].to(device), cosines[:, 0].to(device) - SLACK, following.to(device) + SLACK

    return nearest


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise ImportError('pseudo_skills.backend: faiss needs pip install "adapt-infinity[cpu]"') from None
    return faiss
