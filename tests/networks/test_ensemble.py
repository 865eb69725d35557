import pytest
import torch

from gsac.networks.ensemble import EnsembleLinear, EnsembleOutput


@pytest.mark.parametrize("columns", [1, 3])
def test_an_output_layer_and_its_gradients_are_those_of_a_linear_one(columns):
    inputs = torch.randn(2, 7, 5, dtype=torch.float64, requires_grad=True)
    layer = EnsembleOutput(2, 5, columns).double()
    plain = EnsembleLinear(2, 5, columns).double()
    plain.load_state_dict(layer.state_dict())
    seen = torch.randn(2, 7, columns, dtype=torch.float64)
    ends = []
    for each in (layer, plain):
        values = each(inputs)
        ends.append([values, *torch.autograd.grad(values, [inputs, each.weight, each.bias], seen)])
    assert all(torch.allclose(ours, theirs, atol=1e-12) for ours, theirs in zip(*ends, strict=True))
