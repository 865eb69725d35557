"""The benchmarks of speed count and time what they say."""

import json

import costs
import pytest
import step_speed
import timing
import torch

BATCH, WIDTH = 64, 64


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speed")
    step_speed.main(["--quick", "--modes", "--out", str(folder)])
    return (folder / "step_speed_cpu.json").read_text()


def test_the_flops_and_bytes_of_a_linear_layer_are_those_counted_by_hand():
    layer, inputs = torch.nn.Linear(3, 5, bias=False), torch.randn(7, 3)
    forward = timing.work_of(lambda: layer(inputs))
    assert forward == timing.Work(flops=2 * 7 * 3 * 5, bytes=4 * (7 * 3 + 3 * 5 + 7 * 5), operations=1)
    both = timing.work_of(lambda: torch.autograd.grad(layer(inputs).sum(), layer.weight))
    assert both.flops == 2 * forward.flops  # the inputs want no gradient


def test_views_move_nothing():
    tensor = torch.ones(10, 4)
    assert timing.work_of(lambda: tensor.view(40).unsqueeze(0).expand(3, 40).t()) == timing.Work(0, 0, 0)
    assert timing.work_of(lambda: tensor.add_(tensor.t().reshape(10, 4))).operations == 2


def test_intervals_that_overlap_count_once():
    assert timing.union_seconds([(5.0, 6.0), (0.0, 3.0), (1.0, 2.0), (2.5, 4.0)]) == 5.0
    assert timing.union_seconds([]) == 0.0


def test_tasks_take_turns_and_each_round_begins_with_the_next():
    calls = []
    tasks = {name: lambda n, name=name: calls.append((name, n)) for name in "abc"}
    clock = iter(range(1000))
    seconds = timing.in_turn(tasks, lambda: next(clock), rounds=3, seconds_a_turn=4.0)
    assert [name for name, _ in calls] == [*"aabbcc", *"abc", *"bca", *"cab"]
    assert {n for _, n in calls[6:]} == {4}  # a call takes one tick, so that four fill a turn
    assert seconds == dict.fromkeys("abc", [0.25] * 3)


def test_ratios_are_taken_round_by_round():
    assert timing.ratios([1.0, 2.0, 4.0], [2.0, 2.0, 2.0]) == {"median": 1.0, "min": 0.5, "max": 2.0}


def test_more_work_takes_longer():
    matrices = {size: torch.randn(size, size) for size in (8, 256)}
    tasks = {size: lambda n, m=m: [m @ m for _ in range(n)] for size, m in matrices.items()}
    seconds = timing.in_turn(tasks, timing.clock("cpu", 1), rounds=3, seconds_a_turn=0.01)
    assert min(seconds[256]) > 5 * max(seconds[8])


def test_all_are_measured_in_every_setting_and_no_path_is_written(result, tmp_path_factory):
    found = json.loads(result)
    names = {row["contender"] for row in found["collection"]}
    assert len(names) == 5
    assert {row["contender"].removesuffix(", eager") for row in found["updates"]} == names
    assert {(row["width"], row["batch"], row["threads"]) for row in found["updates"]} == {(WIDTH, BATCH, 1)}
    assert {row["n_envs"] for row in found["collection"]} == {1, 4}
    assert str(tmp_path_factory.getbasetemp()) not in result
    assert not [text for text in ("/home", "/tmp", "/usr", "\\\\") if text in result]


def test_the_measurements_are_of_updates_and_of_collection(result):
    found = json.loads(result)
    updates = {row["contender"]: row for row in found["updates"]}
    dqn = updates["SB3 DQN, `Discrete(2)`"]
    first, others = 4 * WIDTH, WIDTH * WIDTH + WIDTH * 2
    forward = 2 * BATCH * (first + others)
    # the target's pass, and the network's with the gradients of all weights and of all inputs but the first
    assert dqn["megaflops"] == pytest.approx((3 * forward + 2 * BATCH * others) / 1e6, abs=1e-3)
    assert dqn["times_sb3_sac"]["min"] > 1.5
    assert updates[str(step_speed.SB3_SAC)]["times_sb3_sac"] == {"median": 1.0, "min": 1.0, "max": 1.0}
    for row in updates.values():
        assert 0 < row["ceiling_milliseconds"]["products"] < row["milliseconds"]["max"]
    for row in found["collection"]:
        assert row["env_alone_microseconds"]["median"] < row["microseconds"]["median"]
    assert step_speed.update_table(found, threads=1).count("\n") == 6
    assert step_speed.collection_table(found).count("\n") == 6
    assert step_speed.ceiling_table(found, threads=1, batch=BATCH).count("\n") == 6


@pytest.mark.parametrize("contender", [step_speed.GSAC_ONE, step_speed.GSAC_SEVERAL, *step_speed.PEERS], ids=str)
def test_collection_stores_every_step_and_updates_nothing(contender):
    model = step_speed.ready_to_collect(contender, n_envs=3, width=8, device="cpu")
    before = [parameter.clone() for parameter in model.policy.parameters()]
    for _ in range(2):
        step_speed.collect(model, 30)
    assert model.replay_buffer.pos * 3 == model.num_timesteps == 60
    assert model._n_updates == 0
    assert all(map(torch.equal, before, model.policy.parameters()))


def test_the_policy_chooses_what_is_collected():
    model = step_speed.ready_to_collect(step_speed.GSAC_ONE, n_envs=1, width=8, device="cpu")
    *_, weight, bias = model.actor.parameters()
    with torch.no_grad():
        weight.zero_()
        bias.copy_(torch.tensor([-50.0, 50.0]))
    step_speed.collect(model, 40)
    assert (model.replay_buffer.actions[:40] == 1).all()


def test_an_update_costs_what_its_columns_cost(tmp_path, monkeypatch):
    costs.main(["update", "--quick", "--out", str(tmp_path)])
    result = json.loads((tmp_path / "update_cost.json").read_text())
    rows = result["rows"]
    shapes = [(row["kind"], row["columns"], row["groups"]) for row in rows]
    assert shapes == [
        *[("Discrete", 4, 1), ("Discrete", 16, 1), ("MultiDiscrete", 4, 1), ("MultiDiscrete", 16, 4)],
        *[("MultiBinary", 4, 2), ("MultiBinary", 16, 8), ("cut", 16, 1), ("cut", 16, 4)],
    ]
    assert rows[3]["parameters"] == rows[5]["parameters"] > rows[2]["parameters"]
    monkeypatch.setattr(costs, "read", lambda name: result)
    assert "| 16 |" in costs.columns_table()
    assert costs.groups_table().startswith("| 16 columns in groups | 1 | 4 |")


def test_threads_and_estimators_are_measured(tmp_path, monkeypatch):
    costs.main(["threads", "estimators", "--quick", "--out", str(tmp_path)])
    found = {name: json.loads((tmp_path / name).read_text()) for name in ("threads.json", "estimator_cost.json")}
    monkeypatch.setattr(costs, "read", found.__getitem__)
    assert len(costs.threads_table().splitlines()) == 4
    assert "| `expected` |" in costs.estimators_table()
    assert len(costs.neighbours_table().splitlines()) == 4
    assert all(row["milliseconds"]["long"] > 0 for row in found["estimator_cost.json"]["neighbours"])
