"""The toy stream on which the tests of training train."""

import pytest

from adapt_infinity.data.pictures import Pictures
from adapt_infinity.intake.reading import Source
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams
from adapt_infinity.model.lora import Adapter
from tests.training.usual import Toy


@pytest.fixture(scope="module")
def toy(
    toy_source: Source,
    pictures: Pictures,
    base_model: Checkpoint,
    model_params: ModelParams,
    warm_adapter: Adapter,
    tmp_path_factory: pytest.TempPathFactory,
) -> Toy:
    return Toy(toy_source, pictures, base_model, model_params, warm_adapter, tmp_path_factory.mktemp("toy"))
