"""Model files of both formats: what is damaged or foreign is refused, and never half loaded."""

import io
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import save_to_zip_file

from gsac import GSAC, REINFORCE
from gsac.saving import weights

ON_POLICY = {"device": "cpu", "seed": 0, "policy_kwargs": {"net_arch": [4]}}
SMALL = {**ON_POLICY, "buffer_size": 1000, "policy_kwargs": {"net_arch": [4], "critic_layer_norm": False}}


def same(a, b):
    a, b = weights.tensors_of(a), weights.tensors_of(b)
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def corruptions(whole, n, seed):
    """Damaged copies: cut off, bits flipped, blocks zeroed or swapped, bytes appended or left out."""
    rng = np.random.default_rng(seed)
    for i in range(n):
        damaged = bytearray(whole)
        at, other = (int(place) for place in rng.integers(len(whole), size=2))
        size = int(rng.integers(1, 200))
        if i % 6 == 0:
            del damaged[at:]
        elif i % 6 == 1:
            for _ in range(int(rng.integers(1, 4))):
                damaged[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
        elif i % 6 == 2:
            damaged[at : at + size] = bytes(len(damaged[at : at + size]))
        elif i % 6 == 3:
            damaged += rng.bytes(size)
        elif i % 6 == 4:
            end = min(size, len(whole) - at, len(whole) - other)
            damaged[at : at + end], damaged[other : other + end] = whole[other : other + end], whole[at : at + end]
        else:
            del damaged[at : at + size]
        yield bytes(damaged)


def refusals(load, path, whole, original, n, seed=0):
    """How many of n damaged files are refused; all others must be the model as it was."""
    messages = []
    for damaged in corruptions(whole, n, seed):
        path.write_bytes(damaged)
        try:
            loaded = load(path)
        except ValueError as error:
            messages.append(str(error))
        else:
            assert same(loaded, original)
    assert all(str(path) in message for message in messages)
    return len(messages)


def models():
    return [GSAC("MlpPolicy", "CartPole-v1", **SMALL), REINFORCE("MlpPolicy", "CartPole-v1", **ON_POLICY)]


@pytest.mark.parametrize("model", models(), ids=lambda model: type(model).__name__)
def test_of_200_random_corruptions_of_each_format_none_gives_another_model(model, tmp_path):
    kind = type(model)
    for name, save, load in (
        ("model.zip", model.save, lambda path: kind.load(path, device="cpu")),
        ("model.safetensors", model.save_weights, lambda path: kind.from_weights(path, device="cpu")),
    ):
        path = tmp_path / name
        save(path)
        assert same(load(path), model)
        assert refusals(load, path, path.read_bytes(), model, 200) >= 190  # a zeroed block may have been zeros before


def test_a_zip_file_that_sb3_wrote_itself_loads_and_its_corruptions_do_not_give_another_model(tmp_path):
    model, path = models()[0], tmp_path / "model.zip"
    BaseAlgorithm.save(model, path)
    whole = path.read_bytes()
    assert zipfile.ZipFile(path).comment == b""
    assert same(GSAC.load(path, device="cpu"), model)
    assert refusals(lambda path: GSAC.load(path, device="cpu"), path, whole, model, 200) >= 150


def test_flipped_bits_at_the_end_of_a_zip_file_are_noticed(tmp_path):
    """There stand its directory, which has no CRC, and the checksum."""
    path = tmp_path / "model.zip"
    models()[0].save(path)
    whole = path.read_bytes()
    for bit in range(0, 8 * 140, 3):
        damaged = bytearray(whole)
        damaged[-1 - bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged"):
            GSAC.load(path)


def test_a_damaged_zip_file_is_refused_before_it_is_unpickled(tmp_path, monkeypatch):
    model, path = models()[0], tmp_path / "model.zip"
    model.save(path)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)

    def unpickled(*arguments, **kwargs):
        raise AssertionError("unpickled")

    monkeypatch.setattr("cloudpickle.loads", unpickled)
    monkeypatch.setattr("torch.load", unpickled)
    for load in (GSAC.load, model.set_parameters):
        with pytest.raises(ValueError, match=r"model\.zip is damaged"):
            load(str(path))


def test_zip_files_are_read_by_sb3_and_from_streams(tmp_path):
    model = models()[0]
    model.save(tmp_path / "model")
    assert zipfile.ZipFile(tmp_path / "model.zip").testzip() is None
    stream = io.BytesIO()
    model.save(stream)
    assert same(GSAC.load(stream, device="cpu"), model)
    other = GSAC("MlpPolicy", "CartPole-v1", **{**SMALL, "seed": 1})
    other.set_parameters(tmp_path / "model", device="cpu")
    assert other.policy.state_dict().keys() == model.policy.state_dict().keys()
    assert all(other.policy.state_dict()[name].equal(tensor) for name, tensor in model.policy.state_dict().items())


def foreign(folder):
    """Files that hold something else, with the error of each if it is loaded as a zip file and as a safetensors file."""
    folder.mkdir(exist_ok=True)
    files = {
        "empty": b"",
        "text": b"These are not the weights that you are looking for.\n" * 20,
        "png": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
        "nested": (100_000).to_bytes(8, "little") + b"[" * 100_000,
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    with zipfile.ZipFile(folder / "zip", "w") as archive:
        archive.writestr("word/document.xml", "<document/>")
    save_to_zip_file(folder / "data.zip", data={"gamma": 0.9})
    PPO("MlpPolicy", "CartPole-v1", device="cpu").save(folder / "ppo.zip")
    save_file({"weight": torch.zeros(2)}, folder / "other.safetensors")
    save_file({"weight": torch.zeros(2)}, folder / "bare.safetensors", {"format": "pt"})
    return sorted(folder.iterdir())


def test_foreign_files_are_refused_with_their_name(tmp_path):
    model = models()[0]
    model.save(tmp_path / "model.zip")
    model.save_weights(tmp_path / "model.safetensors")
    paths = foreign(tmp_path / "foreign")
    assert len(paths) == 9
    for load, own in ((GSAC.load, "model.safetensors"), (GSAC.from_weights, "model.zip")):
        for path in [*paths, tmp_path / own]:
            with pytest.raises(ValueError, match="holds no") as refusal:
                load(path)
            assert str(path) in str(refusal.value)
        with pytest.raises(ValueError, match="is a folder"):
            load(tmp_path)
        with pytest.raises(FileNotFoundError):
            load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no REINFORCE model: policy.optimizer.pth"):
        REINFORCE.load(tmp_path / "model.zip")
    with pytest.raises(ValueError, match="holds a model of GSAC: use GSAC.from_weights"):
        REINFORCE.from_weights(tmp_path / "model.safetensors")
