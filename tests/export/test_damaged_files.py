"""Files that are damaged or made to do harm: a ValueError that names the file, and nothing else."""

import copy
import json
import struct
import tracemalloc
import zlib

import file_oracle
import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from jaxprune import export

MEMORY = 1_000_000  # that a refusal of a file of a few KB may take


def tree():
    rng = np.random.default_rng(0)
    w = np.where(rng.random((30, 21)) < 0.1, rng.standard_normal((30, 21)), 0).astype(np.float32)
    return {"a": [w, np.arange(5, dtype=np.int16)], "ok": rng.random(199) < 0.5}


def saved(directory, compress=None):
    path = directory / "valid"
    params = tree()
    masks = {"a": [params["a"][0] != 0, None], "ok": None}
    export.save(path, params, masks=masks, compress=compress)
    return path.read_bytes()


def same(loaded):
    wanted = tree()
    assert list(loaded) == ["a", "ok"]
    for a, b in [(loaded["a"][i], wanted["a"][i]) for i in (0, 1)] + [(loaded["ok"], wanted["ok"])]:
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b, strict=True)


@pytest.fixture(scope="module", params=[None, "zstd"])
def valid(request, tmp_path_factory):
    return saved(tmp_path_factory.mktemp("valid"), request.param)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged") / "file"


def refused(place, data, message):
    place.write_bytes(data)
    tracemalloc.start()
    try:
        for read in (export.load, export.load_masks):
            with pytest.raises(ValueError, match=message) as caught:
                read(place)
            assert str(caught.value).startswith(str(place))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MEMORY


@st.composite
def edits(draw, size):
    kind = draw(st.sampled_from(["flip", "byte", "cut", "insert", "delete", "repeat"]))
    at = draw(st.integers(0, size - 1) | st.integers(0, min(size - 1, 1500)))
    return kind, at, draw(st.integers(0, 255)), draw(st.integers(1, 40))


def edited(data, kind, at, byte, length):
    match kind:
        case "flip":
            return data[:at] + bytes([data[at] ^ 1 << byte % 8]) + data[at + 1 :]
        case "byte":
            return data[:at] + bytes([byte]) + data[at + 1 :]
        case "cut":
            return data[:at]
        case "insert":
            return data[:at] + bytes([byte]) * length + data[at:]
        case "delete":
            return data[:at] + data[at + length :]
        case "repeat":
            return data[: at + length] + data[at:]


@given(data=st.data())
def test_any_edit_is_noticed_or_changes_nothing(valid, place, data):
    changed = valid
    for _ in range(data.draw(st.integers(1, 3))):
        if changed:
            changed = edited(changed, *data.draw(edits(len(changed))))
    place.write_bytes(changed)
    try:
        loaded = export.load(place, max_bytes=MEMORY)
    except ValueError:
        return
    same(loaded)


def test_no_flip_of_a_bit_goes_unnoticed(valid, place):
    """One flip in every third byte of the file: only blanks of JSON may differ."""
    for at in range(0, len(valid), 3):
        changed = bytearray(valid)
        changed[at] ^= 1 << at % 8
        place.write_bytes(changed)
        try:
            loaded = export.load(place)
        except ValueError:
            continue
        same(loaded)
        assert valid[at : at + 1].isspace()


def test_every_truncation_is_noticed(valid, place):
    for end in range(0, len(valid), 7):
        place.write_bytes(valid[:end])
        with pytest.raises(ValueError, match="bytes"):
            export.load(place)
    refused(place, valid + b"\0", "its tensors end at")


@given(data=st.binary(max_size=200))
def test_bytes_of_any_kind(place, data):
    for content in (data, struct.pack("<Q", len(data)) + data):
        place.write_bytes(content)
        with pytest.raises(ValueError, match="file"):
            export.load(place)


HEADERS = {
    "not JSON": (b"{", "its header cannot be read"),
    "not UTF-8": (b'{"\xff": 1}', "its header cannot be read"),
    "no object": (b"[]", "its header is no JSON object"),
    "deep": (b"[" * 200_000, "its header cannot be read"),
    "long number": (b'{"a": ' + b"9" * 10_000 + b"}", "its header cannot be read"),
    "twice": (b'{"a": 1, "a": 2}', "the name 'a' stands twice"),
    "metadata": (b'{"__metadata__": {"a": 1}}', "__metadata__ does not hold strings"),
    "plain": (b'{"__metadata__": {"a": "1"}}', "was not written by jaxprune"),
    "not a tensor": (b'{"a": 1}', "tensor 'a' must have dtype"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers(place, case):
    text, message = HEADERS[case]
    refused(place, file_oracle.rebuilt(text, b""), message)


ENTRIES = {
    "negative shape": ({"shape": [-1]}, "the shape of tensor"),
    "real shape": ({"shape": [1.0]}, "the shape of tensor"),
    "bool shape": ({"shape": [True]}, "the shape of tensor"),
    "huge shape": ({"shape": [2**40, 2**40]}, "no array has the shape"),
    "many axes": ({"shape": [1] * 65}, "no array has the shape"),
    "other size": ({"shape": [2**50]}, "does not fill bytes"),
    "dtype": ({"dtype": "F31"}, "unknown dtype 'F31'"),
    "no dtype": ({"dtype": ["F32"]}, "unknown dtype"),
    "negative offset": ({"data_offsets": [-10, 0]}, "data_offsets of tensor"),
    "reversed": ({"data_offsets": [10, 0]}, "does not fill bytes"),
    "three offsets": ({"data_offsets": [0, 10, 10]}, "does not fill bytes"),
    "moved": ({"data_offsets": [10**6, 10**6 + 10]}, "begins at"),
    "overlap": ({"data_offsets": [4, 14]}, "begins at|end at"),
    "more": ({"more": 1}, "must have dtype, shape and data_offsets alone"),
}


@pytest.mark.parametrize("case", ENTRIES)
def test_entries_of_the_header(tmp_path, place, case):
    """Of the tensor a/1, which has 10 bytes."""
    change, message = ENTRIES[case]
    head, payload = file_oracle.header(saved(tmp_path))
    head["a/1"] |= change
    refused(place, file_oracle.rebuilt(head, payload), message)


LEAVES = {
    "version": (lambda own: own.update(version=2), "its version is 2, and 1 is known"),
    "more": (lambda own: own.update(more=2), "version and a list of leaves alone"),
    "no list": (lambda own: own.update(leaves={}), "version and a list of leaves alone"),
    "lost": (lambda own: own["leaves"].pop(), "do not belong together.*ok"),
    "twice": (lambda own: own["leaves"].append(own["leaves"][0]), "do not belong together"),
    "no leaf": (lambda own: own["leaves"].append(3), "a leaf must have"),
    "field": (lambda own: own["leaves"][0].update(form="x"), "a leaf must have"),
    "keys": (lambda own: own["leaves"][0].update(keys="a"), "keys of a leaf are"),
    "real keys": (lambda own: own["leaves"][0].update(keys=[1.5]), "keys of a leaf are"),
    "deep keys": (lambda own: own["leaves"][0].update(keys=["a"] * 1001), "1001 keys deep"),
    "other keys": (lambda own: own["leaves"][0].update(keys=["b"]), "do not belong together"),
    "dtype": (lambda own: own["leaves"][0].update(dtype="F16"), "a/0: its values are F32"),
    "unknown dtype": (lambda own: own["leaves"][0].update(dtype="X"), "the dtype 'X' is unknown"),
    "shape": (lambda own: own["leaves"][0].update(shape=[30, 20]), "a/0: its bits are U8"),
    "huge": (lambda own: own["leaves"][0].update(shape=[2**58]), "bytes of memory, and"),
    "impossible": (lambda own: own["leaves"][0].update(shape=[2**60]), "no array has the shape"),
    "dense shape": (lambda own: own["leaves"][1].update(shape=[1, 5]), "a/1: its values are I16"),
    "masked": (lambda own: own["leaves"][1].update(masked=True), "a/1: masked=True needs bits"),
    "not a bool": (lambda own: own["leaves"][0].update(masked=1), "a/0: masked=1 needs bits"),
    "part": (lambda own: own["leaves"][0]["bits"].update(x=1), "must have crc32 and zstd alone"),
    "crc": (lambda own: own["leaves"][0]["bits"].update(crc32="1"), "whole number as crc32"),
    "wrong crc": (lambda own: own["leaves"][0]["bits"].update(crc32=1), "checksum of its bits"),
    "not zstd": (lambda own: own["leaves"][0]["bits"].update(zstd=True), "bits cannot be unpacked"),
}


@pytest.mark.parametrize("case", LEAVES)
def test_descriptions(tmp_path, place, case):
    change, message = LEAVES[case]
    head, payload = file_oracle.header(saved(tmp_path))
    own = json.loads(head["__metadata__"]["jaxprune"])
    change(own)
    data = file_oracle.described(head, own, payload)
    place.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        export.load(place)


def test_a_description_of_another_kind(tmp_path, place):
    head, payload = file_oracle.header(saved(tmp_path))
    refused(place, file_oracle.described(copy.deepcopy(head), "[1]", payload), "no JSON object")
    deep = '{"version":' + "[" * 200_000
    refused(place, file_oracle.described(copy.deepcopy(head), deep, payload), "cannot be read")
    del head["__metadata__"]["jaxprune_crc32"]
    refused(place, file_oracle.rebuilt(head, payload), "the checksum of its description")


def single(array, keys=("w",), masked=False, **parts):
    """A file of one leaf, put together by hand: part -> (code, shape, bytes, zstd)."""
    name = "/".join(keys)
    plain = "bits" not in parts and not parts["values"][3]
    head, payload, own = {"__metadata__": {}}, b"", {}
    for part, (code, shape, data, zstd) in parts.items():
        entry = {
            "dtype": code,
            "shape": shape,
            "data_offsets": [len(payload), len(payload) + len(data)],
        }
        head[name if plain else f"{name}:{part}"] = entry
        payload += data
        own[part] = {"crc32": zlib.crc32(data), "zstd": zstd}
    leaf = {"keys": list(keys), "dtype": array[0], "shape": array[1], "masked": masked} | own
    return file_oracle.described(head, {"version": 1, "leaves": [leaf]}, payload)


def floats(*values):
    return np.array(values, np.float32).tobytes()


def test_what_is_put_together_by_hand_loads(place):
    data = single(
        ("F32", [3]),
        masked=True,
        values=("F32", [2], floats(1, 2), False),
        bits=("U8", [1], b"\xa0", False),
    )
    place.write_bytes(data)
    np.testing.assert_array_equal(export.load(place)["w"], [1, 0, 2])
    np.testing.assert_array_equal(export.load_masks(place)["w"], [True, False, True])


@pytest.mark.parametrize(
    ("bits", "values", "message"),
    [
        (b"\xa0", floats(1, 2, 3), r"its values are F32\[3\], where the leaf needs F32\[2\]"),
        (b"\xa0", floats(1), r"its values are F32\[1\], where the leaf needs F32\[2\]"),
        (b"\xb0", floats(1, 2), "bits are set beyond the 3"),
        (b"\xa0\0", floats(1, 2), r"its bits are U8\[2\], where the leaf needs U8\[1\]"),
        (b"", floats(1, 2), r"its bits are U8\[0\], where the leaf needs U8\[1\]"),
    ],
)
def test_bits_and_values_that_disagree(place, bits, values, message):
    data = single(
        ("F32", [3]),
        values=("F32", [len(values) // 4], values, False),
        bits=("U8", [len(bits)], bits, False),
    )
    place.write_bytes(data)
    with pytest.raises(ValueError, match=f"w: {message}"):
        export.load(place)


def test_bools_are_0_or_1(place):
    refused_dense = single(("BOOL", [2]), values=("BOOL", [2], b"\1\2", False))
    place.write_bytes(refused_dense)
    with pytest.raises(ValueError, match="w: a value of a bool is neither 0 nor 1"):
        export.load(place)


def frame(data, **options):
    return zstandard.ZstdCompressor(level=19, **options).compress(data)


def claims(size, data):
    """A frame that claims a size, whatever it holds."""
    stream = zstandard.ZstdCompressor().compressobj(size=len(data))
    body = stream.compress(data) + stream.flush()
    head = zstandard.frame_header_size(body)
    return struct.pack("<IBQ", 0xFD2FB528, 0xE0, size) + body[head:]


FRAMES = {
    "no size": (frame(bytes(400), write_content_size=False), "claims"),
    "more": (frame(bytes(404)), "claims 404 bytes, not 400"),
    "fewer": (frame(bytes(396)), "claims 396 bytes, not 400"),
    "claims too much": (claims(2**40, bytes(400)), f"claims {2**40} bytes"),
    "holds more": (claims(400, bytes(10**6)), "cannot be opened"),
    "holds less": (claims(400, bytes(300)), "cannot be opened"),
    "two": (frame(bytes(400)) * 2, "cannot be opened"),
    "data behind": (frame(bytes(400)) + b"x", "cannot be opened"),
    "cut": (frame(np.random.default_rng(0).bytes(400))[:-9], "cannot be opened"),
    "none": (b"something else", "cannot be opened"),
    "empty": (b"", "cannot be opened"),
}


@pytest.mark.parametrize("case", FRAMES)
def test_frames(place, case):
    data, message = FRAMES[case]
    place.write_bytes(single(("F32", [100]), values=("U8", [len(data)], data, True)))
    tracemalloc.start()
    with pytest.raises(ValueError, match=f"w: its values cannot be unpacked.*{message}"):
        export.load(place)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MEMORY


def test_small_files_of_large_zeros_need_consent(place):
    """A frame of zeros is 10,000 times smaller than they are."""
    n = 2**29
    bits = frame(bytes(n // 8))
    data = single(
        ("F32", [n]), values=("F32", [0], b"", False), bits=("U8", [len(bits)], bits, True)
    )
    assert len(data) < 10_000
    refused(place, data, f"take {4 * n} bytes of memory, and {2**30} are allowed")
    small = single(("F32", [100]), values=("F32", [100], floats(*range(100)), False))
    place.write_bytes(small)
    with pytest.raises(ValueError, match="400 bytes of memory, and 399 are allowed"):
        export.load(place, max_bytes=399)
    assert export.load(place, max_bytes=400)["w"][99] == 99


def test_leaves_within_leaves(tmp_path, place):
    export.save(tmp_path / "w", {"a": np.ones(1, np.int8), "b": {"c": np.ones(1, np.int8)}})
    head, payload = file_oracle.header((tmp_path / "w").read_bytes())
    own = json.loads(head["__metadata__"]["jaxprune"])
    head["a/c"] = head.pop("b/c")
    own["leaves"][1]["keys"] = ["a", "c"]
    refused(place, file_oracle.described(copy.deepcopy(head), own, payload), "lies in another leaf")
    own["leaves"].reverse()
    refused(place, file_oracle.described(copy.deepcopy(head), own, payload), "lies in another leaf")
    head[""] = head.pop("a/c")
    own["leaves"][0]["keys"] = []
    refused(place, file_oracle.described(head, own, payload), "lies in another leaf")


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        export.load(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        export.load(tmp_path)
