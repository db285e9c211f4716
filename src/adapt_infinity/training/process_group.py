"""Process groups: several processes train one model together (data parallel).

Each process takes a share of a step's micro-batches, and the gradients are added. The loss is divided by the number of
answer tokens of the whole step before it is differentiated, so the sum over the processes is the gradient of the step,
whatever the shares. Everything else (penalties, clipping, the optimiser) every process computes for itself from the
same numbers, and so all processes stay equal.
"""

import os
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist


@dataclass(frozen=True)
class Group:
    """The place of this process (`rank`) among all processes that train together."""

    rank: int = 0
    size: int = 1

    def add(self, tensor: Tensor) -> None:
        """Replace the tensor, in every process, by its sum over the processes."""
        if self.size > 1:
            dist.all_reduce(tensor)

    def total(self, numbers: Tensor, device: torch.device) -> Tensor:
        """The sum over the processes of a tensor on the CPU; it is sent through `device`, which connects them."""
        if self.size == 1:
            return numbers
        on_device = numbers.to(device)
        dist.all_reduce(on_device)
        return on_device.cpu()

    @property
    def is_first(self) -> bool:
        """Whether this is the process that reports progress and writes files."""
        return self.rank == 0


def join_group(rank: int, size: int, rendezvous: str, device: torch.device, same_machine: bool) -> Group:
    """Connect this process to the others: by NCCL between GPUs, by Gloo between CPUs.

    `rendezvous` is a file that all processes can see; `same_machine` says whether they all run on one machine.
    """
    backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if same_machine:  # the loopback interface works even where the machine cannot resolve its own network name
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(backend, init_method=f"file://{rendezvous}", rank=rank, world_size=size)
    return Group(rank, size)


def leave_group() -> None:
    """Disconnect this process from the others."""
    dist.destroy_process_group()
