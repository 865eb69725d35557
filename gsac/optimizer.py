"""Adam as one kernel, without the Python around it."""

from __future__ import annotations

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


class FusedAdam(torch.optim.Adam):
    """``torch.optim.Adam(fused=True)``: the same numbers and files, at a third of the cost for small networks.

    PyTorch sorts parameters by device and type, looks for hooks and gathers the state at each step, which takes longer
    than the sums themselves where networks are small. :meth:`lean_step` does that once; whatever is out of the ordinary
    (several groups, a parameter without a gradient, ``amsgrad``, a registered hook) takes PyTorch's own way.
    Kingma & Ba 2015, https://arxiv.org/abs/1412.6980

    :param params: of one device and type
    :param lr: learning rate, see :func:`set_learning_rate`
    :param kwargs: the other settings of ``torch.optim.Adam``
    """

    _kept: _State | None = None

    def __init__(self, params: Any, lr: float | Tensor = 1e-3, **kwargs: Any) -> None:
        super().__init__(params, lr, **{"fused": True, **kwargs})

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """As ``torch.optim.Adam``: calls hooks, and the closure if there is one."""
        self._kept = None
        return super().step(closure)

    def lean_step(self) -> None:
        """The same step without what surrounds it, where nothing is out of the ordinary."""
        group = self.param_groups[0]
        grads = [parameter.grad for parameter in group["params"]]
        if self._is_special(group) or any(grad is None for grad in grads):
            self.step()
            return
        kept = self._kept
        if kept is None or kept.of is not self.state or len(kept.params) != len(grads):
            if any(not self.state.get(parameter) for parameter in group["params"]):
                self.step()  # which makes the state
                return
            kept = self._kept = self._gathered(group["params"])
        with torch.no_grad():
            kept.all_steps.add_(1)
            torch._fused_adam_(
                kept.params,
                grads,
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
            or self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
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
