"""What cannot be saved says why; what fails on the way leaves the old file."""

import os
import resource
import signal
import stat
import subprocess
import sys

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxprune import export

ONES = np.ones(3, np.float32)


@pytest.mark.parametrize(
    ("tree", "error", "message"),
    [
        ({}, ValueError, "the tree has no arrays"),
        ({"f": len, "p": 0.5}, ValueError, "the tree has no arrays"),
        ({"a": {"key": jax.random.key}}, ValueError, "no arrays"),
        ({"a": {"b": np.ones(2, np.complex128)}}, TypeError, "a/b is complex128, which"),
        ({"a": np.ones(2, ml_dtypes.int4)}, TypeError, "a is int4"),
        ({"a": np.array(["x"])}, TypeError, "a is <U1"),
        ({"a": np.array([None])}, TypeError, "a is object"),
        ({"a": jax.ShapeDtypeStruct((2,), jnp.float32)}, TypeError, "a ShapeDtypeStruct without"),
        ({"__metadata__": ONES}, ValueError, "cannot be called '__metadata__'"),
    ],
)
def test_trees(tmp_path, tree, error, message):
    with pytest.raises(error, match=message):
        export.save(tmp_path / "w", tree)
    assert os.listdir(tmp_path) == []


def test_keys_of_random_numbers_are_refused_by_name(tmp_path):
    with pytest.raises(TypeError, match="state/rng holds PRNG keys"):
        export.save(tmp_path / "w", {"state": {"rng": jax.random.key(0)}, "w": ONES})


def test_names_that_two_leaves_have(tmp_path):
    @jax.tree_util.register_pytree_with_keys_class
    class Pair:
        def tree_flatten_with_keys(self):
            return [(jax.tree_util.DictKey(k), ONES) for k in (1, "1")], None

        @classmethod
        def tree_unflatten(cls, aux, children):
            return cls()

    with pytest.raises(ValueError, match="cannot be called 'a/1'"):
        export.save(tmp_path / "w", {"a": Pair()})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"compress": "gzip"}, ValueError, "compress='gzip'"),
        ({"level": 0}, ValueError, "level=0"),
        ({"level": 1.5}, ValueError, "level=1.5"),
        ({"dtype": "int8"}, TypeError, "dtype='int8' must be one of float64"),
        ({"dtype": "float8_e4m3"}, TypeError, "dtype='float8_e4m3'"),
        ({"metadata": {"a": 1}}, TypeError, "must map strings"),
        ({"metadata": ["a"]}, TypeError, "must map strings"),
        ({"metadata": {"jaxprune": "1"}}, ValueError, "'jaxprune' is taken"),
        ({"masks": {"w": ONES}}, TypeError, "the mask of w is float32"),
        ({"masks": {"v": None}}, ValueError, "it lacks 'w'"),
        ({"masks": {"w": np.ones(2, bool)}}, ValueError, r"the mask of w has shape \(2,\)"),
    ],
)
def test_options(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        export.save(tmp_path / "w", {"w": ONES}, **options)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("lost", [1.0, np.nan, np.inf])
def test_weights_that_a_mask_would_lose(tmp_path, lost):
    params = {"w": np.array([lost, 0, -0.0, 1], np.float32)}
    masks = {"w": np.array([False, False, False, True])}
    with pytest.raises(ValueError, match="1 weights of w that its mask prunes are not 0"):
        export.save(tmp_path / "w", params, masks=masks)


def test_a_full_disk_leaves_the_old_file(tmp_path):
    """The limit on the size of files stands for a disk that is full in the midst of a write."""
    path = tmp_path / "w"
    export.save(path, {"w": ONES})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            export.save(path, {"w": np.ones(1_000_000, np.float32)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(tmp_path) == ["w"]
    np.testing.assert_array_equal(export.load(path)["w"], ONES)


def test_directories(tmp_path):
    with pytest.raises(FileNotFoundError):
        export.save(tmp_path / "none" / "w", {"w": ONES})
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        export.save(tmp_path / "taken", {"w": ONES})
    assert os.listdir(tmp_path) == ["taken"]


def test_the_new_file_has_the_usual_rights_and_links_stay(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "w")
    export.save(tmp_path / "link", {"w": ONES})
    assert (tmp_path / "link").is_symlink()
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "w")]
    assert modes[0] == modes[1]


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"a": ONES, "c": ONES}, "it lacks 'c', which like has"),
        ({"a": ONES}, "it has 'b', which like lacks"),
        ({"a": ONES, "b": np.ones(4, np.float32)}, r"b is float32\[3\], but float32\[4\] in like"),
        ({"a": ONES, "b": ONES.astype(np.float16)}, r"b is float32\[3\], but float16\[3\]"),
    ],
)
def test_like(tmp_path, like, message):
    path = tmp_path / "w"
    export.save(path, {"a": ONES, "b": ONES})
    for read in (export.load, export.load_masks):
        with pytest.raises(ValueError, match=message) as caught:
            read(path, like=like)
        assert str(caught.value).startswith(str(path))


def test_values_that_overflow_warn(tmp_path):
    with pytest.warns(RuntimeWarning, match="overflow"):
        export.save(tmp_path / "w", {"w": np.full(3, 1e30, np.float32)}, dtype="float16")


def test_zstandard_is_asked_for_by_name(tmp_path, monkeypatch):
    tree = {"w": np.zeros(1000, np.float32)}
    export.save(tmp_path / "w", tree, compress="zstd")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    export.save(tmp_path / "plain", tree)
    np.testing.assert_array_equal(export.load(tmp_path / "plain")["w"], tree["w"])
    for call in (
        lambda: export.save(tmp_path / "w", tree, compress="zstd"),
        lambda: export.load(tmp_path / "w"),
        lambda: export.sizes(tree),
    ):
        with pytest.raises(ImportError, match=r"needs zstandard; .*jaxprune\[export\]"):
            call()


def test_flatbuffers_are_asked_for_by_name(tmp_path):
    code = """
import sys
sys.modules["flatbuffers"] = None
import jax.numpy as jnp
from jaxprune import export
open("f", "wb").close()
for call in (export.save_function, lambda path, *_: export.load_function(path)):
    try:
        call("f", jnp.sin, jnp.zeros(2))
    except ImportError as error:
        print(error)
"""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    says = "needs flatbuffers; install it with: pip install 'jaxprune[export]'"
    assert run.stdout.splitlines() == [f"save_function {says}", f"load_function {says}"]
