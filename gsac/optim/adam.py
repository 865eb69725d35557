"""Adam as one kernel, without the Python around it."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class _State(NamedTuple):
    """What the kernel takes, in its order; lists with an entry for each parameter."""

    of: dict[Any, Any]
    """The optimiser's ``state`` that the lists were taken from: loading another one replaces it."""
    params: list[Tensor]
    exp_avgs: list[Tensor]
    exp_avg_sqs: list[Tensor]
    steps: list[Tensor]
    all_steps: Tensor
    """The storage of ``steps``: one operation counts all of them up. [parameters]"""

    def is_of(self, state: dict[Any, Any], params: list[Tensor]) -> bool:
        """Whether these are the parameters with a gradient, and this is their state still."""
        return (
            self.of is state
            and len(self.params) == len(params)
            and all(map(operator.is_, self.params, params))
            and state.get(params[0], {}).get("step") is self.steps[0]
        )


class FusedAdam(torch.optim.Adam):
    """``torch.optim.Adam(fused=True)``: the same numbers and files, at a third of the cost for small networks.

    PyTorch sorts parameters by device and type, looks for hooks and gathers the state at each step, which takes longer
    than the sums themselves where networks are small. :meth:`lean_step` does that once; whatever is out of the ordinary
    (several groups or types of parameters, ``amsgrad``, a registered hook) takes PyTorch's own way.
    Kingma & Ba 2015, https://arxiv.org/abs/1412.6980

    :param params: of one device and type
    :param lr: learning rate, see :func:`set_learning_rate`
    :param kwargs: the other settings of ``torch.optim.Adam``
    """

    _kept: _State | None = None

    def __init__(self, params: Any, lr: float | Tensor = 1e-3, **kwargs: Any) -> None:
        super().__init__(params, lr, **{"fused": True, **kwargs})

    @property
    def has_hooks(self) -> bool:
        """Whether anything was registered to be called before or after a step."""
        return bool(self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks)

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """As ``torch.optim.Adam``: calls hooks, and the closure if there is one."""
        step: Any = torch.optim.Adam.step
        # PyTorch wraps the step of each class that an optimiser was made of, to call the hooks: this class's own
        # has called them already.
        return (step.__wrapped__ if getattr(step, "hooked", False) else step)(self, closure)

    def lean_step(self) -> None:
        """The same step without what surrounds it, where nothing is out of the ordinary."""
        group = self.param_groups[0]
        learned = [parameter for parameter in group["params"] if parameter.grad is not None]
        if not learned or self._is_special(group):
            self.step()
            return
        kept = self._kept
        if kept is None or not kept.is_of(self.state, learned):
            kinds = {(parameter.dtype, parameter.device) for parameter in learned}
            if len(kinds) > 1 or any(not self.state.get(parameter) for parameter in learned):
                self.step()  # which makes the state
                return
            kept = self._kept = self._gathered(learned)
        with torch.no_grad():
            kept.all_steps.add_(1)
            torch._fused_adam_(
                kept.params,
                [parameter.grad for parameter in learned],
                kept.exp_avgs,
                kept.exp_avg_sqs,
                [],
                kept.steps,
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=group["maximize"],
            )

    def _is_special(self, group: dict[str, Any]) -> bool:
        return bool(
            len(self.param_groups) > 1
            or not group["fused"]
            or group["amsgrad"]
            or group["decoupled_weight_decay"]
            or self.has_hooks
        )

    def _gathered(self, parameters: list[Tensor]) -> _State:
        states = [self.state[parameter] for parameter in parameters]
        all_steps = torch.stack([state["step"] for state in states])
        for state, step in zip(states, all_steps.unbind(), strict=True):
            state["step"] = step
        return _State(
            of=self.state,
            params=list(parameters),
            exp_avgs=[state["exp_avg"] for state in states],
            exp_avg_sqs=[state["exp_avg_sq"] for state in states],
            steps=[state["step"] for state in states],
            all_steps=all_steps,
        )


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Of all groups. On a GPU that of :class:`FusedAdam` is a tensor, which captured graphs see change."""
    for group in optimizer.param_groups:
        device = group["params"][0].device
        if isinstance(group["lr"], Tensor) and group["lr"].device == device:
            group["lr"].fill_(value)
        elif isinstance(optimizer, FusedAdam) and device.type == "cuda":
            group["lr"] = torch.tensor(value, device=device)
        else:
            group["lr"] = value
