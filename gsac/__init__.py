"""Soft actor-critic for discrete actions, in the interface of Stable-Baselines3."""

from gsac import moved
from gsac.algorithms.gsac import GSAC
from gsac.algorithms.reinforce import REINFORCE
from gsac.callbacks.checkpoint import Checkpoint, resume
from gsac.callbacks.diagnostics import GradientDiagnostics
from gsac.estimators import ESTIMATORS, RLOO, GumbelRao, Mixed, Reinforce
from gsac.functional.categorical import FactorisedCategorical
from gsac.networks.policies import CnnPolicy, MlpPolicy, MultiInputPolicy
from gsac.networks.small_cnn import SmallCNN
from gsac.replay.device_buffer import DeviceReplayBuffer
from gsac.replay.prioritized import PrioritizedDictReplayBuffer, PrioritizedReplayBuffer
from gsac.schedules import Constant, Cosine, Exponential, Linear, Piecewise

moved.install()

__version__ = "0.2.0"

__all__ = [
    "ESTIMATORS",
    "GSAC",
    "REINFORCE",
    "RLOO",
    "Checkpoint",
    "CnnPolicy",
    "Constant",
    "Cosine",
    "DeviceReplayBuffer",
    "Exponential",
    "FactorisedCategorical",
    "GradientDiagnostics",
    "GumbelRao",
    "Linear",
    "Mixed",
    "MlpPolicy",
    "MultiInputPolicy",
    "Piecewise",
    "PrioritizedDictReplayBuffer",
    "PrioritizedReplayBuffer",
    "Reinforce",
    "SmallCNN",
    "__version__",
    "resume",
]
