"""A checkpoint is gone on from only if every file is as it was written; else from an earlier one."""

import json

import pytest

from steel_data.errors import InputError
from steel_train.loop.checkpoints import checkpoint_name, finish, prune, read_facts, resumable, verify

FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")


def write(folder, step, epoch_end=False):
    """Write a checkpoint as the trainer does, of small files."""
    written = folder / "checkpoints" / ".writing" / f"checkpoint-{step}"
    written.mkdir(parents=True)
    for name in FILES:
        (written / name).write_bytes(f"{name} of step {step}".encode() * 9)
    target = folder / "checkpoints" / checkpoint_name(step)
    finish(written, target, {"step": step, "epoch_end": epoch_end})
    return target


def cut(file):
    file.write_bytes(file.read_bytes()[:-3])


def flip(file):
    data = bytearray(file.read_bytes())
    data[5] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [cut, flip, lambda file: file.unlink()], ids=["cut", "flipped", "missing"])
def test_a_checkpoint_with_a_damaged_file_is_not_gone_on_from(tmp_path, caplog, name, damage):
    earlier, newest = write(tmp_path, 5), write(tmp_path, 10)
    assert resumable(tmp_path) == newest
    damage(newest / name)
    assert resumable(tmp_path) == earlier
    damage(earlier / name)
    caplog.clear()
    assert resumable(tmp_path) is None
    if name != "optimizer.pt" or (earlier / name).exists():
        assert str(earlier) in caplog.text  # a state that is gone was pruned: no fault, no line


def test_a_checkpoint_of_an_earlier_steel_has_fewer_checksums_and_is_gone_on_from(tmp_path):
    old = write(tmp_path, 5)
    facts = json.loads((old / "steel.json").read_text())
    del facts["state_sha256"]
    (old / "steel.json").write_text(json.dumps(facts))
    assert resumable(tmp_path) == old
    cut(old / "optimizer.pt")
    assert resumable(tmp_path) is None


def test_a_damaged_checkpoint_is_replaced_when_its_step_comes_again(tmp_path):
    cut(write(tmp_path, 5) / "model.safetensors")
    assert read_facts(tmp_path / "checkpoints" / "step-000005") is None
    assert resumable(tmp_path) is None
    assert write(tmp_path, 5) == resumable(tmp_path)


def test_optimiser_states_stay_in_the_newest_two_and_epoch_ends_stay(tmp_path):
    made = [write(tmp_path, step, epoch_end=step == 2) for step in (1, 2, 3, 4)]
    prune(tmp_path, keep=1)
    assert [path for path in made if path.exists()] == [made[1], made[3]]
    assert not (made[1] / "optimizer.pt").exists() and (made[3] / "optimizer.pt").exists()
    assert read_facts(made[1]) is not None, "a pruned checkpoint is still whole"


def test_a_finished_checkpoint_is_verified_by_its_bytes(tmp_path):
    checkpoint = write(tmp_path, 5)
    verify(checkpoint)
    flip(checkpoint / "model.safetensors")
    with pytest.raises(InputError, match=r"model\.safetensors: its bytes are not those that were written"):
        verify(checkpoint)
    cut(checkpoint / "model.safetensors")
    with pytest.raises(InputError, match="is missing or not whole"):
        verify(checkpoint)
