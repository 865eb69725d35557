import numpy as np
import pytest

from gsac.replay.sum_tree import SumTree


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100, 1000])
def test_random_writes_and_searches_agree_with_plain_sums(size):
    rng = np.random.default_rng(size)
    tree, plain = SumTree(size), np.zeros(size)
    for _ in range(50):
        indices = rng.integers(size, size=5)
        weights = rng.exponential(size=5) * (rng.random(5) < 0.7)  # some become 0 again
        tree[indices] = weights
        for index, weight in zip(indices, weights, strict=True):
            plain[index] = weight
        assert np.array_equal(tree[:], plain)
        assert np.array_equal(tree[indices], plain[indices])
        assert tree.total == pytest.approx(plain.sum(), rel=1e-12)
        if tree.total > 0:
            values = rng.random(20) * tree.total
            assert np.array_equal(tree.find(values), np.searchsorted(plain.cumsum(), values, side="right"))


def test_no_rounding_error_builds_up():
    tree, rng = SumTree(5), np.random.default_rng(0)
    for _ in range(2000):
        tree[np.arange(5)] = rng.random(5) * 10.0 ** rng.integers(-9, 9, size=5)
    tree[np.arange(5)] = np.full(5, 0.25)
    assert tree.total == 1.25


def test_weights_of_zero_are_never_drawn_not_even_at_the_ends_of_the_range():
    tree = SumTree(6)
    tree[np.array([1, 3])] = np.array([0.1, 0.2])
    assert set(tree.draw(1000)) == {1, 3}
    assert tree.find(np.array([0.0, tree.total, 2 * tree.total])).tolist() == [1, 3, 3]


@pytest.mark.parametrize("batch", [1, 32])
def test_draws_are_proportional_to_the_weights(batch):
    np.random.seed(0)
    weights = np.random.default_rng(1).exponential(size=13)
    tree = SumTree(13)
    tree[np.arange(13)] = weights
    n = 12_800
    counts = np.bincount(np.concatenate([tree.draw(batch) for _ in range(n // batch)]), minlength=13)
    expected = n * weights / weights.sum()
    assert ((counts - expected) ** 2 / expected).sum() < 32.9  # one in a thousand, 12 degrees of freedom


def test_a_draw_takes_one_from_each_equal_share():
    tree = SumTree(4)
    tree[np.arange(4)] = np.array([1.0, 2.0, 3.0, 4.0])
    for _ in range(20):
        assert np.bincount(tree.draw(10)).tolist() == [1, 2, 3, 4]
