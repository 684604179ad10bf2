"""A training process that is killed and started again makes the run that it would have made."""

import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import processes
import pytest
import train

HERE = pathlib.Path(__file__).parent
LIMIT = 120  # seconds until a process that hangs is ended
MANY = 8

pytestmark = pytest.mark.slow


class Training:
    """A process of `train.py`, and the lines that it prints."""

    def __init__(self, mode, folder, num_devices):
        self.checkpoints, self.out = folder / "checkpoints", folder / "out.npz"
        self.errors = folder / "errors.txt"
        command = [sys.executable, "-W", "error", HERE / "train.py", mode]
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [*command, self.checkpoints, self.out],
                bufsize=0,  # a line that was not read is still in the pipe
                env=processes.environment(num_devices),
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        self.clock = threading.Timer(LIMIT, self.process.kill)
        self.clock.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """SIGKILL, if it still runs."""
        self.clock.cancel()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def lines(self):
        """What it says, as (word, number)."""
        while line := self.process.stdout.readline().decode():
            word, *number = line.split()
            yield word, int(number[0]) if number else None

    def stop(self):
        """Every thread of it stands still once this returns."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def result(self):
        """All its lines, and path -> array of what it wrote."""
        lines = list(self.lines())
        assert self.process.wait(LIMIT) == 0, self.errors.read_text()
        assert lines[-1] == ("done", None)
        with np.load(self.out) as arrays:
            return lines, dict(arrays)


def after_step(training, word, number):
    """Between two events."""
    del training
    return (word, number) == ("step", 7)


def in_event(training, word, number):
    """It has announced an event and not yet said that the step is done."""
    if word != "event" or number < train.EVENTS[1]:
        return False
    training.stop()
    return not select.select([training.process.stdout], [], [], 0)[0]


def in_save(training, word, number):
    """A checkpoint is begun and not finished."""
    if word != "saving" or number <= train.SAVE_EVERY:
        return False
    finished = training.checkpoints / str(number)

    def begun():
        names = [path.name for path in training.checkpoints.iterdir()]
        return any(name.startswith(f"{number}.") for name in names) and not finished.exists()

    while not begun():
        if finished.exists() or training.process.poll() is not None:
            return False
    training.stop()
    return begun()


def interrupt(mode, folder, reached):
    """Trains until `reached`, and kills; returns what it said last."""
    for _ in range(3):  # a busy machine may wake the test too late to see the moment
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        with Training(mode, folder, MANY) as training:
            for word, number in training.lines():
                if reached(training, word, number):
                    return word, number  # and kills, see `__exit__`
                training.process.send_signal(signal.SIGCONT)
    raise AssertionError(f"never {reached.__name__}: {training.errors.read_text()}")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Mode -> what a run writes that nothing interrupts."""
    known = {}

    def of(mode):
        if mode not in known:
            with Training(mode, tmp_path_factory.mktemp(mode), MANY) as training:
                known[mode] = training.result()
        return known[mode]

    return of


def assert_rest(resumed, whole):
    """From its checkpoint on, a run has made the masks and the state of a whole one, to the bit."""
    (lines, own), (all_lines, expected) = resumed, whole
    word, restored = lines[0]
    assert word == "restored"
    assert [i for word, i in lines if word == "step"] == [*range(restored, train.STEPS)]
    assert lines[1:] == all_lines[len(all_lines) - len(lines) + 1 :]
    later = [f"event {event}/" for event in train.EVENTS if event >= restored]
    assert later
    keys = {key for key in expected if key.startswith((*later, "last/"))}
    assert own.keys() == keys
    differing = [
        key
        for key in sorted(keys)
        if (own[key].dtype, own[key].tobytes()) != (expected[key].dtype, expected[key].tobytes())
    ]
    assert differing == []


@pytest.mark.parametrize("reached", [after_step, in_event, in_save])
def test_a_killed_run_goes_on_to_the_bit(reached, uninterrupted, tmp_path):
    word, number = interrupt("network", tmp_path, reached)
    with Training("network", tmp_path, MANY) as training:
        resumed = training.result()
    assert_rest(resumed, uninterrupted("network"))
    restored = resumed[0][0][1]
    if word == "saving":
        assert restored == number - train.SAVE_EVERY
    else:
        assert number - 2 * train.SAVE_EVERY < restored <= number


def test_a_killed_run_goes_on_with_fewer_devices(uninterrupted, tmp_path):
    """Restored into shardings of another mesh: the same masks and weights."""
    interrupt("elementwise", tmp_path, in_event)
    for num_devices in (2, 1):
        folder = tmp_path / str(num_devices)
        shutil.copytree(tmp_path / "checkpoints", folder / "checkpoints")
        with Training("elementwise", folder, num_devices) as training:
            assert_rest(training.result(), uninterrupted("elementwise"))


@pytest.mark.parametrize("mode", train.MODES)
def test_the_uninterrupted_run_prunes_to_the_weight(mode, uninterrupted):
    """What resumed runs are compared with is no run of nothing."""
    _, arrays = uninterrupted(mode)
    size = sum(rows * columns for rows, columns in train.SHAPES.values())
    for event in train.EVENTS:
        sparsity = float(train.COURSE["sparsity"](event))
        masks = [x for key, x in arrays.items() if key.startswith(f"event {event}/")]
        assert sum(map(np.count_nonzero, masks)) == round(size * (1 - sparsity))
    for name in train.SHAPES:
        mask = arrays[f"event {train.EVENTS[-1]}/{name}/kernel"]
        weights = arrays[f"last/params/{name}/kernel"]
        assert (weights[~mask] == 0).all()
        assert (weights[mask] != 0).all()
