import copy
import io
import pickle

import pytest
import torch

from gsac.optim.adam import FusedAdam, set_learning_rate

SHAPES = [(4, 3), (3,), (2, 5, 2), ()]


def make_parameters():
    torch.manual_seed(0)
    return [torch.randn(shape).requires_grad_() for shape in SHAPES]


def both(**kwargs):
    """Ours and PyTorch's own, each with parameters of its own."""
    pairs = [(make_parameters(), kind) for kind in (FusedAdam, torch.optim.Adam)]
    return [(parameters, kind(parameters, **({"lr": 0.01, "fused": True} | kwargs))) for parameters, kind in pairs]


def give_gradients(parameters, step, without=()):
    for i, parameter in enumerate(parameters):
        generator = torch.Generator().manual_seed(100 * step + i)
        parameter.grad = None if i in without else torch.randn(parameter.shape, generator=generator)


def take_step(optimizer):
    """Ours by ``lean_step()``."""
    (optimizer.lean_step if isinstance(optimizer, FusedAdam) else optimizer.step)()


def step(optimizers, first, last, without=()):
    for number in range(first, last):
        for parameters, optimizer in optimizers:
            give_gradients(parameters, number, without)
            take_step(optimizer)


def assert_equal(optimizers):
    (ours, our_optimizer), (theirs, their_optimizer) = optimizers
    for a, b in zip(ours, theirs, strict=True):
        assert a.equal(b)
        here, there = our_optimizer.state[a], their_optimizer.state[b]
        assert here.keys() == there.keys()
        assert all(here[name].equal(there[name]) for name in here)


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"weight_decay": 0.1},
        {"maximize": True},
        {"amsgrad": True},
        {"betas": (0.5, 0.9), "eps": 1e-3},
        {"decoupled_weight_decay": True, "weight_decay": 0.1},
        {"lr": torch.tensor(0.01)},
        {"fused": False},
    ],
    ids=str,
)
def test_the_same_numbers_as_pytorchs_adam(kwargs):
    optimizers = both(**kwargs)
    step(optimizers, 0, 50)
    assert_equal(optimizers)


def test_several_groups_of_parameters():
    optimizers = []
    for kind in (FusedAdam, torch.optim.Adam):
        parameters = make_parameters()
        groups = [{"params": parameters[:2], "lr": 0.1}, {"params": parameters[2:], "weight_decay": 0.1}]
        optimizers.append((parameters, kind(groups, fused=True)))
    step(optimizers, 0, 20)
    assert_equal(optimizers)


def test_a_group_that_is_added_later():
    optimizers = both()
    step(optimizers, 0, 10)
    for parameters, optimizer in optimizers:
        parameters.append(torch.ones(2, requires_grad=True))
        optimizer.add_param_group({"params": parameters[-1:]})
    step(optimizers, 10, 20)
    assert_equal(optimizers)


def test_parameters_of_several_types():
    optimizers = []
    for kind in (FusedAdam, torch.optim.Adam):
        parameters = make_parameters()
        parameters[1] = parameters[1].detach().double().requires_grad_()
        optimizers.append((parameters, kind(parameters, fused=True)))
    for number in range(20):
        for parameters, optimizer in optimizers:
            for parameter in parameters:
                parameter.grad = torch.full_like(parameter, number - 7)
            take_step(optimizer)
    assert_equal(optimizers)


def test_parameters_without_a_gradient_stay_and_count_no_step():
    optimizers = both()
    for first, without in ((0, (1,)), (5, ()), (10, (0, 3)), (15, (1,)), (20, (0, 1, 2, 3)), (25, ())):
        step(optimizers, first, first + 5, without)
        held = {i for i, parameter in enumerate(optimizers[0][0]) if parameter in optimizers[0][1].state}
        assert held == ({0, 2, 3} if first == 0 else {0, 1, 2, 3})
    assert_equal(optimizers)
    assert [state["step"].item() for state in optimizers[0][1].state.values()] == [20, 25, 20, 15]


@pytest.mark.parametrize("ours_first", [True, False])
def test_the_state_goes_to_pytorchs_adam_and_comes_back(ours_first):
    optimizers = both()
    step(optimizers, 0, 10)
    (ours, our_optimizer), (theirs, their_optimizer) = optimizers
    buffer = io.BytesIO()
    giver, taker = (our_optimizer, their_optimizer) if ours_first else (their_optimizer, our_optimizer)
    torch.save(giver.state_dict(), buffer)
    step([(ours, our_optimizer) if not ours_first else (theirs, their_optimizer)], 50, 60)
    with torch.no_grad():
        for a, b in zip(ours, theirs, strict=True):
            (b if ours_first else a).copy_(a if ours_first else b)
    buffer.seek(0)
    taker.load_state_dict(torch.load(buffer))
    step(optimizers, 10, 20)
    assert_equal(optimizers)


def test_a_state_that_is_cleared_or_replaced_in_place_is_made_anew():
    optimizers = both()
    step(optimizers, 0, 10)
    for _, optimizer in optimizers:
        optimizer.state.clear()
    step(optimizers, 10, 20)
    assert_equal(optimizers)
    assert all(state["step"] == 10 for state in optimizers[0][1].state.values())


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))], ids=["copy", "pickle"]
)
def test_copies_go_on_by_themselves(copied):
    optimizers = both()
    step(optimizers, 0, 10)
    original = optimizers[0]
    parameters, optimizer = copied(original)
    assert parameters[0] is optimizer.param_groups[0]["params"][0]
    before = [parameter.detach().clone() for parameter in original[0]]
    step([(parameters, optimizer)], 10, 20)
    assert all(parameter.equal(then) for parameter, then in zip(original[0], before, strict=True))
    assert all(state["step"] == 10 for state in original[1].state.values())
    step([optimizers[1]], 10, 20)
    assert_equal([(parameters, optimizer), optimizers[1]])


def test_a_closure_is_called_for_the_loss():
    optimizers = both()
    for _ in range(5):
        losses = []
        for parameters, optimizer in optimizers:

            def closure(parameters=parameters, optimizer=optimizer):
                optimizer.zero_grad()
                loss = sum(parameter.square().sum() for parameter in parameters)
                loss.backward()
                return loss

            losses.append(optimizer.step(closure))
        assert losses[0].item() == losses[1].item()
    step(optimizers, 0, 5)
    assert_equal(optimizers)


@pytest.mark.parametrize("amsgrad", [False, True])
def test_hooks_are_called_once_at_each_step(amsgrad):
    (parameters, optimizer), theirs = both(amsgrad=amsgrad)
    step([theirs], 0, 1)  # PyTorch changes its class at its first use
    calls = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    assert optimizer.has_hooks
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    step([(parameters, optimizer)], 0, 3)
    assert calls == ["before", "after"] * 3


def test_the_learning_rate_is_set_in_all_groups_and_tensors_are_filled():
    parameters = make_parameters()
    optimizer = FusedAdam([{"params": parameters[:2]}, {"params": parameters[2:], "lr": torch.tensor(0.5)}], lr=0.1)
    kept = optimizer.param_groups[1]["lr"]
    set_learning_rate(optimizer, 0.25)
    assert optimizer.param_groups[0]["lr"] == 0.25
    assert isinstance(optimizer.param_groups[0]["lr"], float)
    assert optimizer.param_groups[1]["lr"] is kept
    assert kept.item() == 0.25


def test_a_learning_rate_from_another_device_is_replaced():
    optimizer = FusedAdam(make_parameters(), lr=0.1)
    optimizer.param_groups[0]["lr"] = torch.tensor(0.5, device="meta")
    set_learning_rate(optimizer, 0.25)
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_a_tensor_as_the_learning_rate_acts_as_the_number_in_it():
    (parameters, optimizer), _ = both(lr=torch.tensor(0.0))
    before = [parameter.detach().clone() for parameter in parameters]
    step([(parameters, optimizer)], 0, 5)
    assert all(parameter.equal(then) for parameter, then in zip(parameters, before, strict=True))
    set_learning_rate(optimizer, 1.0)
    step([(parameters, optimizer)], 5, 6)
    assert not any(parameter.equal(then) for parameter, then in zip(parameters, before, strict=True))
