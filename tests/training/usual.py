"""Two rounds of a toy stream, and the training of each as the pipeline runs it."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import torch
import yaml

from adapt_infinity.data import parquet
from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import Sample, samples_of
from adapt_infinity.intake.reading import Source
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, load_vlm
from adapt_infinity.model.lora import Adapter
from adapt_infinity.pool.pool import Pool, join_pool
from adapt_infinity.training import methods
from adapt_infinity.training.context import ReplayMemory, TrainingContext
from adapt_infinity.training.method_state import MethodState, start_state
from adapt_infinity.training.parameter_vector import collect_weights
from adapt_infinity.training.params import TrainingParams
from adapt_infinity.training.round import TrainingOutputs, train_adapter
from tests.conftest import PROJECT, checked, llava, unread

PARAMS = TrainingParams(
    method="finetune",
    adapter_policy="continue",
    learning_rate=5e-3,
    projector="multi_modal_projector",
    projector_learning_rate=1e-3,
    epochs=8,
    batch_size=4,
    token_budget=300,
    warm_up=0.1,
    weight_decay=0.0,
    max_norm=1.0,
    gradient_checkpointing=False,
    hold_out=0.0,
    evaluate_every=0,
    patience=1,
    checkpoint_every=0,
    workers=1,
    executor="local",
    cache_mb=1,
    seed=0,
)
SMALL: dict[str, dict[str, Any]] = {
    "replay": {"share": 0.4},
    "agem": {"memory_batch": 2},
    "der": {"alpha": 1.0, "memory_batch": 4},
    "der_pp": {"memory_batch": 4},
}
DEFAULTS = yaml.safe_load((PROJECT / "conf/base/parameters_methods.yml").read_text())["methods"]


@dataclass(frozen=True)
class Toy:
    """A stream of two rounds, whose second round contradicts the first, and its model."""

    first: Source
    pictures: Pictures
    base: Checkpoint
    model: ModelParams
    adapter: Adapter  # as genesis leaves it
    folder: Path

    @cached_property
    def pools(self) -> list[Pool]:
        one = join_pool(Pool(), self.stored("one", checked(self.first, self.pictures, round=1)[0]), 1)
        records = [
            llava("text", ("What is two plus two?", "Five."), task="language"),
            llava("one", ("<image>\nWhat is this?", "A dog."), image="p0.png", task="caption"),
            llava("two", ("<image><image>Which is darker?", "None at all."), image=["p1.png", "p2.png"]),
            llava("talk", ("<image>\nA dog?", "yes"), ("A cat?", "Yes, two."), image="p1.png"),
            llava("zh", ("<image>\n这是什么颜色？", "红色"), image="p2.png", task="zh"),
        ]
        pictures = replace(self.pictures, roots={**self.pictures.roots, "contrary": self.pictures.roots["toy"]})
        arrivals, _ = checked(Source("contrary", "llava", records, {}), pictures, round=2, first_id=one.size)
        return [Pool(), one, join_pool(one, self.stored("two", arrivals), 2)]

    def stored(self, name: str, arrivals: pd.DataFrame) -> ds.Dataset:
        """The arrivals in a file, as the shards of a pool are: a table in memory cannot be sent to another process."""
        path = self.folder / f"{name}.parquet"
        if not path.exists():
            parquet.write(path, [unread(arrivals).to_table()])
        return parquet.open_table(path)

    @property
    def all_pictures(self) -> Pictures:
        return replace(self.pictures, roots={**self.pictures.roots, "contrary": self.pictures.roots["toy"]})

    def samples(self, round: int) -> list[Sample]:
        pool = self.pools[round]
        return samples_of(pool.rows(pool.index.loc[pool.index["round"] == round, "sample_id"].to_numpy()))

    def train(
        self,
        method: str,
        round: int,
        before: TrainingOutputs | None = None,
        params: Any = None,
        **changed: Any,
    ) -> TrainingOutputs:
        """Train on the round's arrivals by `method`, with `params` or with the defaults."""
        adapter, _, state = before or (self.adapter, None, start_state())
        pool = self.pools[round]
        subset = pool.index[["sample_id"]].assign(selected=pool.index["round"] == round)
        method_params = {method: {**DEFAULTS[method], **SMALL.get(method, {})} if params is None else vars(params)}
        training_params = replace(
            PARAMS, **{"method": method, "adapter_policy": policy(method), "epochs": 2, **changed}
        )
        return train_adapter(
            *(pool, subset, self.all_pictures, self.base, adapter, state, self.folder / f"{method}-{round}"),
            *(self.model, training_params, method_params, round),
        )

    def context(self, round: int, **changed: Any) -> TrainingContext:
        """The context that a method sees in a round."""
        params = replace(PARAMS, **changed)
        vlm = load_vlm(self.base, self.model, self.adapter)
        weights = collect_weights(vlm, params.projector)
        memory = ReplayMemory(self.pools[round], round)
        return TrainingContext(vlm, weights, self.samples(round), self.all_pictures, memory, params)


def policy(method: str) -> str:
    """A adapter policy that the method can work with."""
    possible = getattr(methods.load(method), "ADAPTER_POLICIES", ("continue",))
    return str(possible[0])


def same(one: Adapter, other: Adapter) -> bool:
    """Equal bit for bit."""
    return one.tensors.keys() == other.tensors.keys() and all(
        torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items()
    )


def equal_states(one: MethodState, other: MethodState) -> bool:
    """Equal bit for bit."""
    return one.tensors.keys() == other.tensors.keys() and all(
        torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items()
    )


def first_rows(pool: Pool, count: int) -> pd.DataFrame:
    """A subset of which the first `count` rows are selected."""
    return pool.index[["sample_id"]].assign(selected=np.arange(len(pool)) < count)
