"""Archives against kaldi_native_io and kaldiio, and what happens when things go wrong."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import kaldi_native_io
import kaldiio
import numpy as np
import pytest

from espnet_like.data import ark as ark_module
from espnet_like.data.ark import ArkReader, ArkWriter, merge_scp
from espnet_like.errors import MissingInput, UserError

Arrays = dict[str, np.ndarray]


def arrays(n: int = 5, dtype: str = "float32", seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    return {f"utt{i}": (rng.standard_normal((12 + i, 7)) * 50).astype(dtype) for i in range(n)}


def write(root: Path, values: Arrays, kind: str = "float32", name: str = "feats") -> Path:
    with ArkWriter(root / f"{name}.ark", root / f"{name}.scp", kind) as writer:
        for utt, value in values.items():
            writer.write(utt, value)
    return root / f"{name}.scp"


@pytest.mark.parametrize("kind", ["float32", "float16", "int16"])
def test_round_trip(tmp_path: Path, kind: str) -> None:
    values = arrays(dtype=kind)
    reader = ArkReader(write(tmp_path, values, kind))
    assert list(reader) == sorted(values)
    assert len(reader) == 5
    assert "utt3" in reader
    assert "utt9" not in reader
    for utt, value in values.items():
        assert reader[utt].dtype == np.dtype(kind)
        np.testing.assert_array_equal(reader[utt], value)
        reader[utt][:] = 0  # a copy: writable, and of no effect on the archive
        np.testing.assert_array_equal(reader[utt], value)
    with pytest.raises(KeyError):
        reader["utt9"]
    assert sorted(os.listdir(tmp_path)) == ["feats.ark", "feats.scp"]


@pytest.mark.parametrize("kind", ["float32", "compressed"])
def test_kaldi_reads_ours(tmp_path: Path, kind: str) -> None:
    values = arrays()
    scp = write(tmp_path, values, kind)
    ours = ArkReader(scp)
    with kaldi_native_io.RandomAccessFloatMatrixReader(f"scp:{scp}") as theirs:
        for utt, value in values.items():
            np.testing.assert_allclose(theirs[utt], ours[utt], rtol=0, atol=1e-4)
            assert ours[utt].flags.c_contiguous
            if kind == "float32":
                np.testing.assert_array_equal(theirs[utt], value)
    with kaldi_native_io.SequentialFloatMatrixReader(f"ark:{tmp_path}/feats.ark") as theirs:
        assert [utt for utt, _ in theirs] == list(values)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 8, 9, 30])
@pytest.mark.parametrize("constant", [False, True])
def test_compressed_error(tmp_path: Path, rows: int, constant: bool) -> None:
    """One byte a value: a column's error is below 1/64 of its range, or, for up to 8 rows,
    1/65535 of the matrix's."""
    value = np.random.default_rng(rows).standard_normal((rows, 6)).astype(np.float32)
    if constant:
        value[:] = -3.0
    scp = write(tmp_path, {"a": value}, "compressed")
    spread = float(np.ptp(value)) or 1.0 + float(np.abs(value).max())
    bound = spread / 65535 if rows <= 8 else spread / 64
    np.testing.assert_allclose(ArkReader(scp)["a"], value, atol=1.01 * bound)
    with kaldi_native_io.RandomAccessFloatMatrixReader(f"scp:{scp}") as theirs:
        np.testing.assert_allclose(theirs["a"], value, atol=1.01 * bound)
    if rows == 30:
        assert (tmp_path / "feats.ark").stat().st_size < 0.5 * value.nbytes


@pytest.mark.parametrize("method", ["float32", "kSpeechFeature", "kTwoByteAuto", "kOneByteAuto"])
def test_we_read_kaldis(tmp_path: Path, method: str) -> None:
    values = arrays()
    place = f"ark,scp:{tmp_path}/k.ark,{tmp_path}/k.scp"
    if method == "float32":
        with kaldi_native_io.FloatMatrixWriter(place) as plain:
            for utt, value in values.items():
                plain.write(utt, value)
    else:
        chosen = getattr(kaldi_native_io.CompressionMethod, method)
        with kaldi_native_io.CompressedMatrixWriter(place) as packed:
            for utt, value in values.items():
                packed.write(utt, value, chosen)
    ours = ArkReader(tmp_path / "k.scp")
    with kaldi_native_io.RandomAccessFloatMatrixReader(f"scp:{tmp_path}/k.scp") as theirs:
        for utt in values:
            np.testing.assert_allclose(ours[utt], theirs[utt], rtol=0, atol=1e-4)


def test_vectors(tmp_path: Path) -> None:
    values = {f"u{i}": np.linspace(-1, 1, 3 + i, dtype=np.float32) for i in range(3)}
    for kind in ("float32", "compressed"):  # Kaldi compresses matrices only
        scp = write(tmp_path, values, kind)
        with kaldi_native_io.RandomAccessFloatVectorReader(f"scp:{scp}") as theirs:
            for utt, value in values.items():
                np.testing.assert_array_equal(ArkReader(scp)[utt], value)
                np.testing.assert_array_equal(theirs[utt], value)


def test_other_layouts_are_converted(tmp_path: Path) -> None:
    value = np.arange(24, dtype=np.float64).reshape(4, 6)
    reader = ArkReader(write(tmp_path, {"t": value.T, "s": value[::2, ::3]}))
    np.testing.assert_array_equal(reader["t"], value.T)
    np.testing.assert_array_equal(reader["s"], value[::2, ::3])


def test_text_archive(tmp_path: Path) -> None:
    (tmp_path / "t.ark").write_text("a  [\n  1.5 2.5\n  3.5 4.5 ]\n")
    (tmp_path / "t.scp").write_text(f"a {tmp_path}/t.ark:2\n")
    np.testing.assert_array_equal(ArkReader(tmp_path / "t.scp")["a"], [[1.5, 2.5], [3.5, 4.5]])


def test_scp_is_sorted_and_paths_are_as_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with ArkWriter("dump/x.ark", "dump/x.scp") as writer:
        for utt in ("b", "é", "B", "a"):
            writer.write(utt, np.ones((2, 2), np.float32))
    lines = Path("dump/x.scp").read_text(encoding="utf-8").splitlines()
    assert [line.split()[0] for line in lines] == ["B", "a", "b", "é"]
    assert all(line.split()[1].startswith("dump/x.ark:") for line in lines)
    assert ArkReader("dump/x.scp")["é"].shape == (2, 2)


def test_archive_is_found_beside_its_scp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dump").mkdir()
    monkeypatch.chdir(tmp_path / "dump")
    with ArkWriter("x.ark", "x.scp") as writer:
        writer.write("a", np.ones((2, 2), np.float32))
    monkeypatch.chdir(tmp_path)
    assert ArkReader("dump/x.scp")["a"].sum() == 4


def test_failure_leaves_what_was(tmp_path: Path) -> None:
    before = arrays(2, seed=1)
    scp = write(tmp_path, before)
    with (
        pytest.raises(RuntimeError, match="boom"),
        ArkWriter(tmp_path / "feats.ark", scp) as writer,
    ):
        writer.write("other", np.ones((3, 3), np.float32))
        raise RuntimeError("boom")
    assert sorted(os.listdir(tmp_path)) == ["feats.ark", "feats.scp"]
    reader = ArkReader(scp)
    for utt, value in before.items():
        np.testing.assert_array_equal(reader[utt], value)


def _fill_disk(root: Path) -> None:
    """Write past the largest file that this process may write; 0 only if all is as it should."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    try:
        with ArkWriter(root / "feats.ark", root / "feats.scp") as writer:
            for i in range(100):
                writer.write(f"u{i}", np.ones((100, 10), np.float32))
    except OSError:
        sys.exit(0)
    sys.exit(1)


def test_full_disk_leaves_what_was(tmp_path: Path) -> None:
    values = arrays(2)
    scp = write(tmp_path, values)
    child = multiprocessing.get_context("fork").Process(target=_fill_disk, args=(tmp_path,))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert sorted(os.listdir(tmp_path)) == ["feats.ark", "feats.scp"]
    np.testing.assert_array_equal(ArkReader(scp)["utt1"], values["utt1"])


def test_disk_that_is_full_at_close(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last bytes are written when the file is closed; that may fail too."""

    def full(self: Path, *_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    values = arrays(1)
    scp = write(tmp_path, values)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space left"):
            write(tmp_path, arrays(3, seed=5))
    assert sorted(os.listdir(tmp_path)) == ["feats.ark", "feats.scp"]
    np.testing.assert_array_equal(ArkReader(scp)["utt0"], values["utt0"])


def test_what_the_writer_refuses(tmp_path: Path) -> None:
    one = np.ones((2, 2), np.float32)
    for kind, utt, value, match in [
        ("float32", "a b", one, "no spaces"),
        ("float32", "", one, "no spaces"),
        ("float32", "a", np.ones((0, 3), np.float32), "shape"),
        ("float32", "a", np.ones((2, 2, 2), np.float32), "shape"),
        ("float16", "a", 1e5 * one, "float16 cannot hold"),
        ("compressed", "a", np.nan * one, "compressed cannot hold"),
        ("int16", "a", one, "int16 samples"),
    ]:
        with (
            pytest.raises(ValueError, match=match),
            ArkWriter(tmp_path / "x.ark", tmp_path / "x.scp", kind) as writer,
        ):
            writer.write(utt, value)
    with (
        pytest.raises(ValueError, match="written twice"),
        ArkWriter(tmp_path / "x.ark", tmp_path / "x.scp") as writer,
    ):
        writer.write("a", one)
        writer.write("a", one)
    with pytest.raises(ValueError, match="kind must be one of"):
        ArkWriter("x.ark", "x.scp", "float8")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("kind", ["float32", "compressed", "float16", "int16"])
def test_truncated_archive(tmp_path: Path, kind: str) -> None:
    values = arrays(dtype="int16" if kind == "int16" else "float32")
    scp = write(tmp_path, values, kind)
    whole = (tmp_path / "feats.ark").read_bytes()
    for length in (len(whole) - 1, len(whole) - 100, len(whole) * 3 // 5, 0):
        (tmp_path / "feats.ark").write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"feats\.ark.*utt4.*remake with --stage feats"):
            ArkReader(scp)["utt4"]
        if length:
            np.testing.assert_allclose(ArkReader(scp)["utt0"], values["utt0"], atol=6)


def test_broken_archives(tmp_path: Path) -> None:
    scp = write(tmp_path, arrays(2))
    raw = bytearray((tmp_path / "feats.ark").read_bytes())
    raw[11:15] = (-1).to_bytes(4, "little", signed=True)  # the number of rows
    (tmp_path / "feats.ark").write_bytes(raw)
    with pytest.raises(UserError, match=r"utt0.*truncated or broken"):
        ArkReader(scp)["utt0"]
    kaldiio.save_ark(
        str(tmp_path / "p.ark"), {"a": [1]}, str(tmp_path / "p.scp"), write_function="pickle"
    )
    with pytest.raises(UserError, match="pickled object"):
        ArkReader(tmp_path / "p.scp")["a"]
    sound = (8000, np.zeros(100, np.int16))
    kaldiio.save_ark(str(tmp_path / "w.ark"), {"a": sound}, str(tmp_path / "w.scp"))
    with pytest.raises(UserError, match="an audio file, not an array"):
        ArkReader(tmp_path / "w.scp")["a"]


def test_bad_scp(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="run --stage feats"):
        ArkReader(tmp_path / "none.scp")
    for text, match in {
        "a x.ark:2\nb\n": r"x\.scp:2: not '<utterance> <ark>:<offset>'",
        "a x.ark:2\na x.ark:9\n": r"x\.scp:2: 'a' again",
        "a cat x |\n": r"x\.scp:1: commands",
        "a x.ark:5[0:3]\n": r"x\.scp:1: commands and ranges",
    }.items():
        (tmp_path / "x.scp").write_text(text)
        with pytest.raises(UserError, match=match):
            ArkReader(tmp_path / "x.scp")
    (tmp_path / "x.scp").write_text("a missing.ark:2\n")
    with pytest.raises(UserError, match=r"missing\.ark: no such archive.*utterance a"):
        ArkReader(tmp_path / "x.scp")["a"]


def test_merge(tmp_path: Path) -> None:
    values = arrays(6)
    parts = [
        write(tmp_path, {u: v for u, v in values.items() if int(u[3:]) % 2 == i}, name=f"feats.{i}")
        for i in range(2)
    ]
    merge_scp(parts, tmp_path / "feats.scp")
    reader = ArkReader(tmp_path / "feats.scp")
    assert list(reader) == sorted(values)
    for utt, value in values.items():
        np.testing.assert_array_equal(reader[utt], value)
    with pytest.raises(UserError, match=r"feats\.0\.scp:1: 'utt0' is in another part"):
        merge_scp([parts[0], parts[0]], tmp_path / "twice.scp")
    with pytest.raises(MissingInput):
        merge_scp([tmp_path / "none.scp"], tmp_path / "twice.scp")
    assert not (tmp_path / "twice.scp").exists()


def _total(reader: ArkReader) -> float:
    return float(sum(reader[utt].sum() for utt in reader))


def test_workers(tmp_path: Path) -> None:
    """The same numbers through a pickle, in forked processes and from several threads."""
    reader = ArkReader(write(tmp_path, arrays(20)))
    expected = _total(reader)  # and the archive is mapped now
    assert _total(pickle.loads(pickle.dumps(reader))) == expected
    assert len(pickle.dumps(reader)) < 5000
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(_total, [reader] * 4) == [expected] * 4
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(_total, [reader] * 40)) == [expected] * 40


def _resident(reader: ArkReader) -> int:
    """Bytes of this process's memory, after all of `reader` was read."""
    for utt in reader:
        reader[utt]
    fields = Path("/proc/self/status").read_text().split()
    return int(fields[fields.index("VmRSS:") + 1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_does_not_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ark_module, "_RESIDENT", 1 << 20)
    values = {f"u{i:02d}": np.full((256, 256), i, np.float32) for i in range(64)}  # 16 MiB
    small = ArkReader(write(tmp_path, dict(list(values.items())[:8]), name="small"))
    large = ArkReader(write(tmp_path, values, name="large"))
    before = _resident(small)
    assert _resident(large) - before < 4 << 20


def test_random_reads_at_the_rate_of_kaldiio(tmp_path: Path) -> None:
    """A wide margin for busy machines; tools/benchmark.py reports the ratio itself."""
    rng = np.random.default_rng(0)
    values = {f"u{i:03d}": rng.random((200, 128), dtype=np.float32) for i in range(60)}
    reader = ArkReader(write(tmp_path, values))
    lines = (tmp_path / "feats.scp").read_text().splitlines()
    places = dict(line.split(" ", 1) for line in lines)
    order = [str(utt) for utt in rng.permutation(list(values))]

    def seconds(read: object) -> float:
        best = 1e9
        for _ in range(7):
            start = time.perf_counter()
            for utt in order:
                read(utt)  # type: ignore[operator]
            best = min(best, time.perf_counter() - start)
        return best

    theirs = seconds(lambda utt: kaldiio.load_mat(places[utt]))
    ours = seconds(reader.__getitem__)
    print(f"random reads: {theirs / ours:.2f} times the rate of kaldiio.load_mat")
    assert ours < 2 * theirs
