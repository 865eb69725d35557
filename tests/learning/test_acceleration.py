import pickle
import subprocess
import sys

import pytest
import tape
import torch

from gsac.learning.acceleration import WARM_UPS, Captured, choose_mode

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class Counter:
    """Counts in a tensor what is done, and in Python how often it was asked."""

    def __init__(self):
        self.total = torch.zeros(())
        self.calls = []
        self.recordings = 0

    def add(self, amount):
        self.calls.append(amount)
        self.total.add_(amount)

    def record(self, update):
        self.recordings += 1
        return tape.record(update)

    def captured(self, list_references=list):
        return Captured(self.add, CPU, list_references, self.record)


def test_the_mode_follows_the_device():
    assert [choose_mode("auto", device) for device in (CPU, CUDA)] == ["eager", "cudagraph"]
    for wanted in ("eager", "compile"):
        assert [choose_mode(wanted, device) for device in (CPU, CUDA)] == [wanted, wanted]
    assert choose_mode("cudagraph", CUDA) == "cudagraph"
    with pytest.raises(ValueError, match="acceleration='cudagraph' needs device='cuda'"):
        choose_mode("cudagraph", CPU)


def test_the_first_calls_are_made_as_they_are_and_then_one_is_recorded():
    counter = Counter()
    captured = counter.captured()
    for call in range(1, 10):
        captured(2)
        assert counter.total == 2 * call
        assert len(counter.calls) == min(call, WARM_UPS + 1)
    assert counter.recordings == 1


def test_each_combination_of_arguments_has_a_recording_of_its_own():
    counter = Counter()
    captured = counter.captured()
    for _ in range(10):
        captured(1)
        captured(10)
    assert counter.total == 110
    assert counter.recordings == 2
    assert len(counter.calls) == 2 * (WARM_UPS + 1)


@pytest.mark.parametrize(
    ("before", "after", "forgotten"),
    [
        ([1, 0.5], [1, 0.5], False),
        ([1, 0.5], [1, 0.25], True),
        ([True], [False], True),
        ([1], [1, 1], True),
        ([float("1000.5")], [float("1000.5")], False),
        ([[]], [[]], True),
        ([None, CPU], [None, CPU], False),
        ([0], [None], True),
    ],
)
def test_recordings_are_forgotten_when_what_they_refer_to_is_replaced(before, after, forgotten):
    counter, now = Counter(), [before]
    captured = counter.captured(lambda: now[0])
    for objects in (before, before, after, after):
        now[0] = objects
        captured.drop_outdated()
        for _ in range(WARM_UPS + 2):
            captured(1)
    assert counter.total == 4 * (WARM_UPS + 2)
    assert counter.recordings == 1 + forgotten


def test_what_the_first_calls_make_forgets_nothing():
    counter, made = Counter(), []
    captured = Captured(lambda: made.append(len(made)) or counter.add(1), CPU, lambda: list(made), counter.record)
    captured.drop_outdated()
    for _ in range(WARM_UPS):
        captured()
    captured.drop_outdated()
    captured()
    assert counter.recordings == 1


def test_a_function_that_reads_is_never_recorded_and_says_where():
    counter = Counter()

    def read(amount):
        counter.add(amount)
        if counter.total < 0:
            raise AssertionError

    captured = Captured(read, CPU, list, counter.record)
    with pytest.warns(
        UserWarning, match=r"_local_scalar_dense in .*test_acceleration.py, line \d+: if counter.total < 0"
    ):
        captured(1)
    for _ in range(10):
        captured(1)
    assert counter.total == 11
    assert counter.recordings == 0


def test_a_recording_that_fails_is_not_tried_again():
    counter = Counter()

    def fail(update):
        counter.record(update)
        raise RuntimeError("it cannot be done\nfor some reason")

    captured = Captured(counter.add, CPU, list, fail)
    for _ in range(WARM_UPS):
        captured(1)
    with pytest.warns(UserWarning, match=r"it cannot be done\. Pass acceleration='eager'"):
        captured(1)
    for _ in range(10 - WARM_UPS - 1):
        captured(1)
    assert counter.total == 10
    assert counter.recordings == 1


def test_errors_of_the_function_itself_are_raised():
    def broken():
        raise ValueError("wrong")

    captured = Captured(broken, CPU)
    with pytest.raises(ValueError, match="wrong"):
        captured()


def test_a_copy_has_no_recordings():
    counter = Counter()
    captured = Captured(counter.total.add_, CPU)
    captured(1)
    assert captured._calls
    copied = pickle.loads(pickle.dumps(captured))
    assert copied._calls == copied._replays == {}
    assert copied.device == CPU


def test_the_package_imports_neither_the_compiler_nor_optional_packages():
    program = (
        "import sys, gsac, gsac.cli.main\n"
        "print([name for name in ('torch._dynamo', 'torch._inductor', 'pandas', 'matplotlib', 'rliable') "
        "if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "[]"


def test_the_stand_in_for_a_graph_neither_executes_nor_asks_python_again():
    values, asked = torch.ones(3), []

    def update():
        asked.append(1)
        noise = torch.empty(3).exponential_()
        values.mul_(2).add_(noise.exp() * len(asked))

    before = torch.get_rng_state()
    replay = tape.record(update)
    assert values.tolist() == [1.0, 1.0, 1.0]
    assert torch.get_rng_state().equal(before)
    replay()
    torch.set_rng_state(before)
    assert torch.allclose(values, 2 + torch.empty(3).exponential_().exp())
    first = values.clone()
    replay()
    assert not values.equal(3 * first)
    assert len(asked) == 1
    for read in (lambda: values.sum().item(), lambda: values[values > 0], lambda: values.nonzero()):
        with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
            tape.record(read)
