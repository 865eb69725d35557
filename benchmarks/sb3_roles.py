"""A pytest plugin that puts GSAC in the place of SB3's DQN, SAC and A2C and of sb3-contrib's QRDQN.

``sb3_suite.py`` runs SB3's own tests with it. Only cases in which one of the four occurs are run, and of those only the
ones that ``sb3_not_applicable.yml`` does not list. Assertions, steps and thresholds stay as they are; what changes:

- The class under test is GSAC under the other's name. It starts learning as early as the other, and arguments that only
  the other has (action noise, state-dependent exploration, epsilon, rollout lengths) are left out. The one test that asks
  for a return which GSAC does not reach with DQN's batch size and number of updates, nor in training with its own
  exploration, gets other settings, see ``SETTINGS``.
- Where a test leaves the batch size out and its replay buffer is smaller than one of GSAC's batches, which GSAC refuses,
  the batch is as large as the buffer.
- Where SAC or A2C meet an environment with ``Box`` actions, the environment takes classes instead: five per number,
  spread evenly over its range.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import itertools
import json
import os
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium import spaces
from sb3_suite import reason_not_to_run
from stable_baselines3.common.envs import IdentityEnv
from stable_baselines3.common.vec_env import SubprocVecEnv
from studies import PLAIN

from gsac import GSAC

CLASSES_PER_NUMBER = 5
"""An odd number, so that the middle of a range can be chosen."""

SETTINGS = {"stable_baselines3/test_her.py::test_performance_her[10]": PLAIN | {"batch_size": 128, "gradient_steps": 8}}
"""Where a test asks for a return, with settings that suit the other: those that suit GSAC. That return is one of training, in
which actions are explored."""

BATCH_SIZE = inspect.signature(GSAC.__init__).parameters["batch_size"].default

FOREIGN_POLICY_KWARGS = {"n_quantiles", "log_std_init", "use_expln", "ortho_init"}


class Role(GSAC):
    """GSAC, constructed with the arguments of another algorithm."""

    defaults: ClassVar[dict[str, Any]] = {"learning_starts": 100}
    foreign: ClassVar[set[str]] = set()
    settings: ClassVar[dict[str, Any]] = {}

    def __init__(self, policy: Any, env: Any, **kwargs: Any) -> None:
        kwargs = {name: value for name, value in {**self.defaults, **kwargs}.items() if name not in self.foreign}
        if kwargs.get("policy_kwargs"):
            kwargs["policy_kwargs"] = translated(kwargs["policy_kwargs"])
        if "batch_size" not in kwargs and kwargs.get("buffer_size", BATCH_SIZE) < BATCH_SIZE:
            kwargs["batch_size"] = kwargs["buffer_size"]
        action_noise = kwargs.pop("action_noise", None)
        super().__init__(policy, env, **{**kwargs, **self.settings})
        self.action_noise = action_noise  # SB3 adds it to Box actions alone

    def learn(self, total_timesteps: int, *args: Any, **kwargs: Any) -> Any:
        kwargs.setdefault("tb_log_name", type(self).__name__)
        return super().learn(total_timesteps, *args, **kwargs)


class SAC(Role):
    foreign: ClassVar[set[str]] = {"use_sde", "sde_sample_freq", "use_sde_at_warmup"}


class WithOneExtractor:
    """A policy whose actor's features extractor has the name that it has in on-policy policies."""

    features_extractor = property(lambda self: self.actor.features_extractor, lambda self, _: None)


class WithQNet:
    """A policy whose critics have the names of DQN's and QRDQN's networks."""

    q_net = quantile_net = property(lambda self: self.critic)
    q_net_target = quantile_net_target = property(lambda self: self.critic_target)


def policies(mixin: type) -> dict[str, type]:
    """Makes subclasses of GSAC's policies with a mixin. They are put into this module, where pickle looks for them."""
    found = {}
    for name, policy in GSAC.policy_aliases.items():
        found[name] = type(f"{mixin.__name__}{name}", (mixin, policy), {"__module__": __name__})
        globals()[found[name].__name__] = found[name]
    return found


class A2C(Role):
    """Its ``n_steps`` is the length of a rollout, not of a return; it learns from the first steps on."""

    defaults: ClassVar[dict[str, Any]] = {"learning_starts": 5, "buffer_size": 10_000}
    foreign: ClassVar[set[str]] = {"n_steps"}
    policy_aliases: ClassVar[dict[str, Any]] = policies(WithOneExtractor)


class DQN(WithQNet, Role):
    foreign: ClassVar[set[str]] = {"exploration_fraction", "exploration_initial_eps", "exploration_final_eps"}
    policy_aliases: ClassVar[dict[str, Any]] = policies(WithQNet)


class QRDQN(DQN):
    pass


ROLES = {"DQN": DQN, "SAC": SAC, "A2C": A2C, "QRDQN": QRDQN}


def translated(policy_kwargs: dict[str, Any]) -> dict[str, Any]:
    """Translates another algorithm's ``policy_kwargs``: drops what GSAC lacks; the value network's layers become the critics'."""
    kwargs = {name: value for name, value in policy_kwargs.items() if name not in FOREIGN_POLICY_KWARGS}
    net_arch = kwargs.get("net_arch")
    if isinstance(net_arch, dict) and "qf" not in net_arch:
        kwargs["net_arch"] = {"pi": net_arch.get("pi", []), "qf": net_arch.get("vf", [])}
    return kwargs


def pytest_configure() -> None:
    if importlib.util.find_spec("ale_py") is None:  # imported by one file, and used by no case that is run
        sys.modules["ale_py"] = types.ModuleType("ale_py")
    for name in ("DQN", "SAC", "A2C"):
        setattr(stable_baselines3, name, ROLES[name])
    if os.environ["SB3_ROLES_PACKAGE"] == "sb3_contrib":
        import sb3_contrib

        sb3_contrib.QRDQN = QRDQN


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    taken = [item for item in items if role_of(item) is not None]
    reasons = {item.nodeid: reason_not_to_run(item.nodeid) for item in taken}
    config.stash[CASES] = {
        name: {"outcome": "not applicable", "reason": reason} for name, reason in reasons.items() if reason
    }
    items[:] = [item for item in taken if not reasons[item.nodeid]]


CASES = pytest.StashKey[dict[str, dict[str, str]]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    cases = item.config.stash[CASES]
    if report.when == "call" or report.outcome != "passed":
        reason = "" if report.passed else str(report.longrepr)[-2000:]
        no_gpu = report.skipped and "CUDA not available" in reason
        cases[item.nodeid] = {"outcome": "not applicable" if no_gpu else report.outcome, "reason": reason}
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    Path(os.environ["SB3_ROLES_RESULT"]).write_text(json.dumps(session.config.stash.get(CASES, {})))


def role_of(item: Any) -> str | None:
    """Finds the algorithm that a test is about: by its parameters, or, if they contain none, by its code."""
    values = list(item.callspec.params.values()) if hasattr(item, "callspec") else []
    tables = [value for value in vars(item.module).values() if isinstance(value, dict)]
    for table in tables:  # such as {"sac": (SAC, "Pendulum-v1")}
        for found in [table.get(value) for value in values if isinstance(value, str)]:
            values += found if isinstance(found, tuple) else [found]
    algorithms = [value.__name__ for value in values if is_algorithm(value)]
    if algorithms:
        return next((name for name in algorithms if name in ROLES), None)
    fixtures = itertools.chain.from_iterable(item._fixtureinfo.name2fixturedefs.values())
    functions = [
        item.function,
        *(fixture.func for fixture in fixtures if fixture.func.__module__ == item.module.__name__),
    ]
    named = {name for function in functions for name in names_in(function.__code__)}
    return next((name for name in ROLES if name in named), None)


def is_algorithm(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, stable_baselines3.common.base_class.BaseAlgorithm)


def names_in(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from names_in(constant)


def discretised(env: gymnasium.Env) -> None:
    """Changes an environment with ``Box`` actions in place, so that it takes classes."""
    box = env.action_space
    if not isinstance(box, spaces.Box):
        return
    size = int(np.prod(box.shape))
    env.action_space = (
        spaces.Discrete(CLASSES_PER_NUMBER) if size == 1 else spaces.MultiDiscrete([CLASSES_PER_NUMBER] * size)
    )
    step = env.step

    def step_with_classes(action: Any) -> Any:
        if isinstance(action, tuple):  # one test hands on all that predict() returns
            action = action[0]
        fraction = np.reshape(action, box.shape) / (CLASSES_PER_NUMBER - 1)
        return step((box.low + fraction * (box.high - box.low)).astype(box.dtype))

    env.step = step_with_classes


def with_classes(init: Callable[..., None]) -> Callable[..., None]:
    """Wraps an environment's constructor, so that the environment takes classes."""

    @functools.wraps(init)
    def wrapper(self: gymnasium.Env, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if type(self).__init__ is wrapper:  # not yet where this is the constructor of a base class
            discretised(self)

    return wrapper


def environments(kind: type = gymnasium.Env) -> Iterator[type]:
    for subclass in kind.__subclasses__():
        if not issubclass(subclass, gymnasium.Wrapper):
            yield subclass
            yield from environments(subclass)


@pytest.fixture(autouse=True)
def _case_in_gsacs_terms(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(Role, "settings", SETTINGS.get(request.node.nodeid, {}))
    if role_of(request.node) not in ("SAC", "A2C"):
        return
    import gymnasium.envs.classic_control

    for kind in set(environments()):
        if "__init__" in vars(kind):
            monkeypatch.setattr(kind, "__init__", with_classes(kind.__init__))
    # The state is drawn from the actions' space, which is the observations' until it is replaced.
    monkeypatch.setattr(
        IdentityEnv, "_choose_next_state", lambda self: setattr(self, "state", self.observation_space.sample())
    )
    # Processes that are not forked would import the environments anew, with Box actions.
    start = SubprocVecEnv.__init__
    monkeypatch.setattr(
        SubprocVecEnv, "__init__", lambda self, env_fns, start_method=None: start(self, env_fns, "fork")
    )
    if hasattr(request.node, "callspec"):
        for env in request.node.callspec.params.values():
            if isinstance(env, gymnasium.Env) and isinstance(env.action_space, spaces.Box):
                monkeypatch.setattr(env, "action_space", env.action_space)
                monkeypatch.setattr(env, "step", env.step)
                discretised(env)
