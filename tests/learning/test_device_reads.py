import numpy as np
import pytest
import torch

from gsac.learning.device_reads import DeviceReads

VALUES = torch.tensor([1.0, -2.0, 3.0])


def branch(values):
    if values.sum() > 0:
        return 1
    return 0


def fill_chosen(values):
    copy = values.clone()
    copy[copy > 0] = torch.ones(2)
    return copy


READING = {
    "item": lambda values: values[0].item(),
    "float": lambda values: float(values[0]),
    "int": lambda values: int(values[0]),
    "bool": lambda values: bool(values[0]),
    "if": branch,
    "equal": lambda values: torch.equal(values, values),
    "allclose": lambda values: torch.allclose(values, values),
    "nonzero": lambda values: values.nonzero(),
    "where": lambda values: torch.where(values > 0),
    "unique": lambda values: values.unique(),
    "masked_select": lambda values: values.masked_select(values > 0),
    "boolean index": lambda values: values[values > 0],
    "boolean assignment": fill_chosen,
    "repeat_interleave": lambda values: values.repeat_interleave(torch.ones(3, dtype=torch.int64)),
    "move": lambda values: values.to("meta"),
    "move of one number": lambda values: values[0].to("meta"),
    "copy": lambda values: torch.empty(3, device="meta").copy_(values),
    "made of numbers": lambda values: values + torch.tensor([1.0, 2.0, 3.0]),
    "made of an array": lambda values: values + torch.as_tensor(np.ones(3, np.float32)),
    "list as an index": lambda values: values[[0, 2]],
}


def in_place(values):
    copy = values.clone()
    copy[copy > 0] = 0.0
    copy[1] = 5.0
    return copy.clamp_(0, 1).mul_(2.0)


HARMLESS = {
    "arithmetic": lambda values: (values.exp() * 2).sum(),
    "where": lambda values: torch.where(values > 0, values, 0.0),
    "index": lambda values: values[values.argsort()],
    "slice": lambda values: values[1:] + values[:-1],
    "in place": in_place,
    "noise": lambda values: torch.empty_like(values).exponential_(),
}


@pytest.mark.parametrize("read", READING)
def test_reads_from_a_device_are_found_with_their_line(read):
    with DeviceReads() as reads:
        READING[read](VALUES)
    assert len(reads.found) == 1
    line = READING[read].__code__.co_firstlineno
    file, _, rest = reads.found[0].partition(", line ")
    assert file.endswith(__file__)
    assert int(rest.partition(":")[0]) - line in (0, 1, 2)
    assert "values" in rest or "copy" in rest


@pytest.mark.parametrize("operation", HARMLESS)
def test_operations_without_reads_are_not_found(operation):
    with DeviceReads() as reads:
        HARMLESS[operation](VALUES)
    assert reads.found == []


def test_reads_in_a_backward_pass_are_found():
    class Reading(torch.autograd.Function):
        @staticmethod
        def forward(ctx, values):
            return values.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * gradient.sum().item()

    values = VALUES.clone().requires_grad_()
    with DeviceReads() as reads:
        torch.autograd.grad(Reading.apply(values).sum(), values)
    assert len(reads.found) == 1
    assert "gradient.sum().item()" in reads.found[0]


def test_nothing_is_changed_or_refused():
    with DeviceReads():
        assert VALUES.sum().item() == 2.0
        assert VALUES[VALUES > 0].tolist() == [1.0, 3.0]
