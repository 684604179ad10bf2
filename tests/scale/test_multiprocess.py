"""Several processes with devices of their own: the run that one device makes, bit for bit."""

import concurrent.futures
import functools
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import processes
import pytest
import worker
from jax.sharding import AxisType

HERE = pathlib.Path(__file__).parent
LIMIT = 300  # seconds until processes that wait for each other are ended

pytestmark = pytest.mark.slow


def start(process_id, coordinator, num_processes, num_devices, cases, folder):
    """A process of `worker.py`, its words in a file."""
    ids = [str(num_processes), str(process_id)]
    command = [sys.executable, "-W", "error", HERE / "worker.py", coordinator, *ids]
    with (folder / f"{process_id}.txt").open("w") as words:
        return subprocess.Popen(
            [*command, folder / f"{process_id}.npz", *cases],
            env=processes.environment(num_devices),
            stdout=words,
            stderr=subprocess.STDOUT,
        )


def launch(num_processes, num_devices, cases, folder):
    """Runs processes to their end; where one fails, or none ends, ends the others."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    shared = (coordinator, num_processes, num_devices, cases, folder)
    processes = [start(i, *shared) for i in range(num_processes)]
    try:
        with concurrent.futures.ThreadPoolExecutor(num_processes) as pool:
            ends = [pool.submit(end, process) for process in processes]
            concurrent.futures.wait(ends, return_when=concurrent.futures.FIRST_EXCEPTION)
            for process in processes:  # does nothing where one has ended
                process.kill()
    finally:
        for process in processes:
            process.kill()
            process.wait()
    codes = [process.returncode for process in processes]
    words = [f"process {i}:\n{(folder / f'{i}.txt').read_text()}" for i in range(num_processes)]
    assert codes == [0] * num_processes, "\n".join([str(codes), *words])


def end(process):
    """Waits; raises unless the process ends well."""
    if process.wait(LIMIT):
        raise ChildProcessError(process.args)


class Whole:
    """An array put together from shards, each of which must agree with those that it overlaps."""

    def __init__(self, like):
        self.values, self.known = np.zeros_like(like), np.zeros(like.shape, bool)

    def add(self, start, shard):
        """Whether the shard is what is known already of its place."""
        place = tuple(slice(i, i + n) for i, n in zip(start, shard.shape, strict=True))
        same = not np.any(self.known[place] & (self.values[place] != shard))
        self.values[place], self.known[place] = shard, True
        return same and shard.dtype == self.values.dtype


@functools.cache
def reference(name):
    """Key -> array, of a run on one device in this process."""
    mesh = jax.make_mesh((1,), ("x",), (AxisType.Auto,), devices=jax.devices()[:1])
    return {
        f"{name}/{step}/{path}": np.asarray(x)
        for step, moment in enumerate(worker.run(name, mesh))
        for path, x in worker.flat(moment).items()
    }


def differences(name, files):
    """What is not, bit for bit, as on one device."""
    expected = reference(name)
    whole = {key: Whole(x) for key, x in expected.items()}
    found = []
    for shards in files:
        for label in shards.files:
            key, start, _ = label.split("|")
            if not key.startswith(f"{name}/"):
                continue
            if not whole[key].add([int(i) for i in start.split(",") if i], shards[label]):
                found.append(f"{label}: processes differ")
    found += [f"{key}: has holes" for key, own in whole.items() if not own.known.all()]
    return found + [
        f"{key}: {np.count_nonzero(own.values != expected[key])} of {own.values.size} differ"
        for key, own in whole.items()
        if own.values.tobytes() != expected[key].tobytes()
    ]


@pytest.mark.parametrize(
    ("num_processes", "num_devices", "cases"),
    [
        (2, 1, [*worker.CASES]),
        (2, 2, ["global", "nm"]),
        (4, 1, ["global"]),
    ],
    ids=["2 processes", "2 processes of 2 devices", "4 processes"],
)
def test_processes_make_the_run_of_one_device(num_processes, num_devices, cases, tmp_path):
    launch(num_processes, num_devices, cases, tmp_path)
    files = [np.load(tmp_path / f"{i}.npz") for i in range(num_processes)]
    assert [difference for name in cases for difference in differences(name, files)] == []


@pytest.mark.parametrize("name", worker.CASES)
def test_the_run_of_one_device_prunes_to_the_weight(name):
    """What processes are compared with is no run of nothing."""
    run, last = reference(name), worker.STEPS - 1
    changed = [step for step in range(worker.STEPS) if run[f"{name}/{step}/changed"]]
    assert changed == list(worker.EVENTS)
    masks = {key: x for key, x in run.items() if key.startswith(f"{name}/{last}/masks/")}
    assert len(masks) == len(worker.CASES[name][1])
    size = sum(mask.size for mask in masks.values())
    assert sum(map(np.count_nonzero, masks.values())) == size // 4
    for key, mask in masks.items():
        weights = run[key.replace("masks", "params")]
        assert (weights[~mask] == 0).all()
        assert (weights[mask] != 0).mean() > 0.9


def test_the_index_decides_between_equal_weights():
    """At the first event some weights of one magnitude are kept and some are pruned."""
    kept, pruned = [], []
    for name in worker.LEAVES:
        scores = np.abs(worker.host_params([*worker.LEAVES])[name]["kernel"])
        mask = reference("global")[f"global/0/masks/{name}/kernel"]
        kept.append(scores[mask])
        pruned.append(scores[~mask])
    assert np.concatenate(kept).min() == np.concatenate(pruned).max()
