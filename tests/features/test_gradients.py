"""What is done to a gradient before it is sketched: sgd, sign, adam."""

import pytest
import torch

from adapt_infinity.features import gradients
from adapt_infinity.features.gradients import adam, sgd, sign

GRADIENT = torch.tensor([[[3.0, -4.0, 0.0]], [[-0.1, 0.2, 1.0]]])


def test_sgd_and_sign_by_hand() -> None:
    assert torch.equal(sgd.prepare(GRADIENT, None, 0), GRADIENT)
    assert sign.prepare(GRADIENT, None, 0).tolist() == [[[1, -1, 0]], [[-1, 1, 1]]]


def test_adam_is_the_step_of_torch() -> None:
    """With a learning rate of 1 and weights of 0, the weights after a step are its negative."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.zeros(1, 3))
    optimiser = torch.optim.Adam([weight], lr=1.0)
    for _ in range(5):
        weight.grad = torch.randn(1, 3, generator=generator)
        optimiser.step()
    state = optimiser.state[weight]
    moments = (state["exp_avg"].clone(), state["exp_avg_sq"].clone())
    made = adam.prepare(GRADIENT, moments, 5)
    assert torch.equal(moments[0], state["exp_avg"]), "the moments have changed"
    for sample in range(2):
        with torch.no_grad():
            weight.zero_()
        optimiser.state[weight].update(
            step=torch.tensor(5.0), exp_avg=moments[0].clone(), exp_avg_sq=moments[1].clone()
        )
        weight.grad = GRADIENT[sample].clone()
        optimiser.step()
        assert torch.allclose(-weight.detach(), made[sample], rtol=1e-5)


@pytest.mark.parametrize(("moments", "steps"), [(None, 5), ((torch.zeros(1, 3), torch.zeros(1, 3)), 0)])
def test_adam_without_moments_says_what_to_do(moments: gradients.Moments | None, steps: int) -> None:
    with pytest.raises(ValueError, match="train it once with this version"):
        adam.prepare(GRADIENT, moments, steps)


@pytest.mark.parametrize("name", gradients.names())
def test_every_file_keeps_the_shape_and_does_not_change_its_argument(name: str) -> None:
    before = GRADIENT.clone()
    made = gradients.load(name)(GRADIENT, (torch.ones(1, 3), torch.ones(1, 3)), 7)
    assert made.shape == GRADIENT.shape
    assert torch.equal(GRADIENT, before)
    alone = gradients.load(name)(GRADIENT[1:], (torch.ones(1, 3), torch.ones(1, 3)), 7)
    assert torch.equal(made[1:], alone)
