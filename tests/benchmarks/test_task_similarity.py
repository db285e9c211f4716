"""Task similarity: mean embeddings per task, cosines of every pair of tasks, and the changes of score beside them."""

import numpy as np
import pandas as pd
import pytest

from adapt_infinity.benchmarks.answering import BenchmarkParams
from adapt_infinity.benchmarks.task_similarity import compare_tasks, describe_task, start_tasks
from adapt_infinity.data.pictures import Pictures
from adapt_infinity.intake.reading import Source
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams
from adapt_infinity.pool.pool import Pool, join_pool
from adapt_infinity.reporting.figures import task_similarity_map
from adapt_infinity.reporting.figures.tasks import changes
from tests.conftest import checked, llava, unread

PARAMS = BenchmarkParams(
    items_per_skill=1, max_new_tokens=8, token_budget=200, task_samples=5, executor="local", workers=1, seed=0
)


def test_every_round_appends_its_task(
    toy_source: Source, pictures: Pictures, base_model: Checkpoint, model_params: ModelParams
) -> None:
    def task(source: Source, before: pd.DataFrame, round: int) -> pd.DataFrame:
        pool = join_pool(Pool(), unread(checked(source, pictures, round=round)[0]), round)
        return describe_task(pool, pictures, base_model, before, model_params, PARAMS, round)

    one = task(toy_source, start_tasks(), 1)
    assert one["part"].tolist() == ["image", "instruction", "answer"]
    assert (one["dataset"] == "toy").all()
    two = task(Source("text", "llava", [llava("a", ("Say yes.", "yes"))], {}), one, 2)
    assert two["round"].tolist() == [1, 1, 1, 2, 2], "a task without pictures has no image row"
    again = task(toy_source, two, 3)
    assert describe_task(Pool(), pictures, base_model, again, model_params, PARAMS, 4) is again, "nothing has arrived"
    found = compare_tasks(again).set_index(["part", "round", "other_round"])["cosine"]
    assert len(found) == 4 + 9 + 9
    assert found["image", 1, 1] == pytest.approx(1)
    assert found["instruction", 1, 2] == found["instruction", 2, 1]
    assert found["answer", 1, 2] < 0.95
    assert found["answer", 1, 3] > found["answer", 1, 2], "other samples of the same dataset"


def test_cosines_by_hand() -> None:
    vectors = pd.DataFrame(
        {
            "round": [1, 2],
            "dataset": ["a", "b"],
            "part": "answer",
            "vector": [np.array([3.0, 4.0]), np.array([0.0, 2.0])],
        }
    )
    assert compare_tasks(vectors)["cosine"].tolist() == pytest.approx([1, 0.8, 0.8, 1])


def test_the_change_of_score_of_each_dataset() -> None:
    """Weighted by items, the score of dataset a changed from (1·0 + 3·1)/4 to (1·1 + 3·½)/4."""
    rows = [(0, "a", "x", 1, 0.0), (0, "a", "y", 3, 1.0), (1, "a", "x", 1, 1.0), (1, "a", "y", 3, 0.5)]
    scores = pd.DataFrame(rows, columns=["round", "dataset", "skill", "items", "score"])
    assert changes(scores, ["a"]).tolist() == [[2.5 / 4 - 3 / 4]]


def test_the_figure_has_one_panel_per_part_and_one_for_the_changes() -> None:
    pairs = [(1, "a", 1, "a"), (1, "a", 2, "b"), (2, "b", 1, "a"), (2, "b", 2, "b")]
    similarity = pd.DataFrame(
        [(*pair, part, 0.5) for pair in pairs for part in ("instruction", "answer")],
        columns=["round", "dataset", "other_round", "other", "part", "cosine"],
    )
    scores = pd.DataFrame(
        [(t, name, "s", 2, 0.1 * t) for t in range(3) for name in "ab"],
        columns=["round", "dataset", "skill", "items", "score"],
    )
    figure = task_similarity_map(similarity, scores)
    panels = {axes.get_title(): [text.get_text() for text in axes.texts] for axes in figure.axes}
    assert panels == {
        "image": [],
        "instruction": ["0.50"] * 4,
        "answer": ["0.50"] * 4,
        "change of score": ["+0.10"] * 4,
    }
