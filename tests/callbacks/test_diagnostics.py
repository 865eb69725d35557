"""The actor's gradient is measured in training, and training does not notice."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from problems import Match
from stable_baselines3 import DQN
from stable_baselines3.common.logger import configure

from gsac import GSAC, GradientDiagnostics
from gsac.callbacks.diagnostics import measure_gradient, measure_gradients

SETTINGS = {"learning_starts": 50, "batch_size": 32, "seed": 0, "device": "cpu"}
MULTI = spaces.MultiDiscrete([3, 2])


def trained(estimator, head, space=MULTI, steps=100, callback=None):
    model = GSAC("MlpPolicy", Match(space), estimator=estimator, policy_kwargs={"critic_head": head}, **SETTINGS)
    return model.learn(steps, callback=callback)


def test_measuring_does_not_change_training():
    plain = trained("gumbel_softmax", "action_in", steps=150)
    measured = trained("gumbel_softmax", "action_in", steps=150, callback=GradientDiagnostics(every=10, samples=3))
    for a, b in zip(plain.policy.parameters(), measured.policy.parameters(), strict=True):
        assert a.equal(b)
    assert np.array_equal(plain.replay_buffer.actions, measured.replay_buffer.actions)


def test_it_logs_at_the_given_steps_under_its_own_keys(tmp_path):
    model = GSAC("MlpPolicy", Match(MULTI), **SETTINGS)
    model.set_logger(configure(str(tmp_path), ["csv"]))
    seen = []

    class Spy(GradientDiagnostics):
        def _report(self, found):
            super()._report(found)
            names = self.logger.name_to_value
            seen.append((self.num_timesteps, {name for name in names if name.startswith("gradient/")}))

    model.learn(150, callback=Spy(every=40, samples=2))
    keys = {"gradient/relative_bias", "gradient/cosine", "gradient/snr"}
    assert seen == [(80, keys), (120, keys)]  # not at 40, when nothing had been learned yet
    assert all(len(key) <= 36 for key in keys)


@pytest.mark.parametrize("estimator", ["expected", "straight_through"])
def test_the_measured_bias_of_an_exact_estimator_is_zero(estimator):
    found = measure_gradient(trained(estimator, "linear", spaces.Discrete(5)), samples=4)
    assert found.relative_bias < 1e-3
    assert found.cosine == pytest.approx(1.0, abs=1e-5)
    assert found.snr > 1e5


def test_unbiased_and_biased_estimators_are_told_apart():
    model = trained("rloo", "action_in")
    unbiased = measure_gradient(model, samples=400)
    assert unbiased.relative_bias < 0.15
    assert 0 < unbiased.snr < 20

    def wrong(policy, q, temperature):
        return 2 * q(policy.sample() + policy.probs)

    first, biased = measure_gradients(model, [model.learner.objective.estimator, wrong], samples=400)
    assert first == unbiased  # the batch is the same
    assert biased.relative_bias > 0.5


def test_many_joint_actions_are_measured_against_local_expectations():
    model = trained("local_expectation", "action_in", spaces.MultiBinary(20))
    found = measure_gradient(model, samples=30)
    assert found.relative_bias < 0.2
    assert found.cosine > 0.8


def test_the_gradient_is_that_of_the_actors_loss():
    """Without entropy and with the exact estimator, the actor's loss has minus the measured gradient."""
    model = trained("expected", "linear")
    observations = model.replay_buffer.sample(32).observations
    torch.manual_seed(0)
    policy, q = model.actor.distribution(observations), model.learner.action_value(observations)
    actions, probs = policy.joint()
    values = torch.stack(model.critic(observations.repeat(6, 1), actions.reshape(-1, 5))).mean(0).reshape(6, 32)
    assert torch.allclose(q(actions), values, atol=1e-5)
    assert torch.allclose(
        model.learner.objective.estimator(policy, q, model.learner.temperature), (probs * values).sum(0), atol=1e-5
    )


def test_other_models_and_settings_out_of_range_are_refused():
    with pytest.raises(TypeError, match="and this is a DQN"):
        DQN("MlpPolicy", "CartPole-v1").learn(10, callback=GradientDiagnostics())
    with pytest.raises(ValueError, match="samples=1 is out of range"):
        GradientDiagnostics(samples=1)
    with pytest.raises(TypeError, match="every=0.5 is not a whole number"):
        GradientDiagnostics(every=0.5)
