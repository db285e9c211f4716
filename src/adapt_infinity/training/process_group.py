"""Processes that train as one: each takes a share of a step's micro-batches, and their gradients are added.

The loss is divided by the answer tokens of the whole step before it is differentiated, so the sum over processes is
the step's gradient whatever the shares. Everything else (penalties, clipping, the optimiser) every process does by
itself, on equal numbers, and stays equal to the others.
"""

import os
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist


@dataclass(frozen=True)
class Group:
    """Which process it is, of how many."""

    rank: int = 0
    size: int = 1

    def add(self, tensor: Tensor) -> None:
        """Sum over the processes, in place in each of them."""
        if self.size > 1:
            dist.all_reduce(tensor)

    def total(self, numbers: Tensor, device: torch.device) -> Tensor:
        """The sum of a few numbers on the CPU over the processes, by way of the device that they talk through."""
        if self.size == 1:
            return numbers
        spread = numbers.to(device)
        dist.all_reduce(spread)
        return spread.cpu()

    @property
    def first(self) -> bool:
        """The one that speaks and writes."""
        return self.rank == 0


def join_group(rank: int, size: int, rendezvous: str, device: torch.device, near: bool) -> Group:
    """Meet the others at a file that all of them see; NCCL between GPUs, Gloo between CPUs. `near`: on this machine."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if near:  # and not by the name that the machine has in a network, which it may not know itself
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(backend, init_method=f"file://{rendezvous}", rank=rank, world_size=size)
    return Group(rank, size)


def leave_group() -> None:
    """The work is done."""
    dist.destroy_process_group()
