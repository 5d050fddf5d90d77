"""Corpora of many archives, against a server of our own: whole, broken, changed, in parts."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import shutil
import struct
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from espnet_like.bin import download as stage
from espnet_like.data import archives as module
from espnet_like.data import download
from espnet_like.data.listing import group, read_listing
from espnet_like.data.split_zip import open_zip
from espnet_like.data.tar_archive import extract_tar
from espnet_like.errors import UserError

NOISE = np.random.default_rng(0).bytes(300_000)


class Publisher:
    """Serves `files` at `url`/<name>; counts requests; answers with `status` where set."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.status: dict[str, int] = {}
        self.seen: list[str] = []
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.lstrip("/")
                publisher.seen.append(name)
                body = publisher.files.get(name)
                if body is None or name in publisher.status:
                    self.send_error(publisher.status.get(name, 404))
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def record(self, number: int, names: list[str]) -> str:
        """Publish a record of these files; return its address."""
        files = [
            {
                "key": name,
                "size": len(self.files[name]),
                "checksum": md5(self.files[name]),
                "links": {"self": f"{self.url}/{name}"},
            }
            for name in names
        ]
        record = {"files": files, "metadata": {"license": {"id": "cc-by-4.0"}}}
        self.files[f"api/records/{number}"] = json.dumps(record).encode()
        return f"{self.url}/api/records/{number}"


def md5(data: bytes) -> str:
    return "md5:" + hashlib.md5(data).hexdigest()


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def tarred(members: dict[str, bytes | str], compress: bool = True) -> bytes:
    """A tar archive as `tar czf x.tar.gz .` makes it; a str is where a link points to."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz" if compress else "w") as archive:
        top = tarfile.TarInfo("./")
        top.type = tarfile.DIRTYPE
        archive.addfile(top)
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            if isinstance(data, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, data
                archive.addfile(entry)
            else:
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    return file.getvalue()


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    publisher = Publisher()
    publisher.files = {
        "c.meta.zip": zipped({"corpus/meta.csv": b"a\nb\n", "corpus/README": b"read"}),
        "c.audio.1.zip": zipped({"corpus/audio/a.wav": NOISE[:9000]}),
        "c.audio.2.zip": zipped(
            {"corpus/audio/b.wav": NOISE[9000:20000], "corpus/README": b"read"}
        ),
    }
    yield publisher
    publisher.close()


def table(publisher: Publisher, path: Path, rows: list[str] | None = None) -> Path:
    if rows is None:
        rows = [
            f"{name}\t{publisher.url}/{name}\t{len(data)}\t{md5(data)}"
            for name, data in publisher.files.items()
        ]
    head = [
        "# Some corpus",
        "# licence: for tests",
        "# holds: corpus/meta.csv",
        "# holds: meta.csv",
    ]
    path.write_text("\n".join([*head, "file\turl\tbytes\tchecksum", *rows]) + "\n")
    return path


@pytest.fixture
def tsv(publisher, tmp_path) -> Path:
    return table(publisher, tmp_path / "archives.tsv")


WHOLE = ["corpus/README", "corpus/audio/a.wav", "corpus/audio/b.wav", "corpus/meta.csv"]


def files(db: Path) -> list[str]:
    """What a user sees: all files but those of the state."""
    return sorted(
        str(path.relative_to(db))
        for path in db.rglob("*")
        if path.is_file() and path.relative_to(db).parts[0] != ".archives"
    )


def run(tsv: Path, db: Path, *options: str) -> int:
    return stage.main([str(tsv), "--db-root", str(db), *options])


def test_all_archives_once(tsv, publisher, tmp_path, capsys):
    db = tmp_path / "db"
    assert run(tsv, db) == 0
    assert files(db) == WHOLE and (db / "corpus/audio/a.wav").read_bytes() == NOISE[:9000]
    assert sorted(publisher.seen) == sorted(publisher.files)
    assert "licence: for tests" in capsys.readouterr().out
    assert not list((db / ".archives" / "unpacking").iterdir())
    publisher.seen.clear()
    assert run(tsv, db) == 0
    assert publisher.seen == [] and "all 3 archives are in place" in capsys.readouterr().out


def test_archives_are_kept_where_asked(tsv, publisher, tmp_path):
    run(tsv, tmp_path / "db", "--keep-archives", "--parallel", "1")
    assert files(tmp_path / "db") == sorted([*WHOLE, *publisher.files])


def test_one_failure_leaves_the_rest_done(tsv, publisher, tmp_path, capsys):
    db = tmp_path / "db"
    publisher.status["c.audio.1.zip"] = 404
    whole = publisher.files["c.audio.2.zip"]
    publisher.files["c.audio.2.zip"] = whole[:-1] + b"?"
    assert run(tsv, db) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2
    assert any("c.audio.1.zip: HTTP 404" in line for line in errors)
    assert any("c.audio.2.zip: md5 expected" in line for line in errors)
    assert files(db) == ["corpus/README", "corpus/meta.csv"]
    publisher.status.clear()
    publisher.files["c.audio.2.zip"] = whole
    publisher.seen.clear()
    assert run(tsv, db) == 0
    assert sorted(publisher.seen) == ["c.audio.1.zip", "c.audio.2.zip"] and files(db) == WHOLE


def test_no_network_is_one_line_an_archive(tsv, publisher, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(module, "fetch", lambda *a: download.fetch(*a, attempts=1, wait=0))
    tsv.write_text(tsv.read_text().replace(publisher.url, "http://127.0.0.1:9"))
    assert run(tsv, tmp_path / "db") == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 3 and all("check the network" in line for line in errors)


def test_half_an_archive_is_continued(tsv, publisher, tmp_path):
    db = tmp_path / "db"
    db.mkdir()
    (db / "c.meta.zip.part").write_bytes(publisher.files["c.meta.zip"])  # all has come
    (db / "c.audio.1.zip").write_bytes(publisher.files["c.audio.1.zip"])
    assert run(tsv, db) == 0
    assert publisher.seen == ["c.audio.2.zip"] and files(db) == WHOLE


def test_an_archive_that_is_broken_inside(tsv, publisher, tmp_path, capsys):
    """The checksum of the table fits, the member's does not."""
    data = bytearray(publisher.files["c.audio.1.zip"])
    data[2000] ^= 255
    publisher.files["c.audio.1.zip"] = bytes(data)
    db = tmp_path / "db"
    assert run(table(publisher, tsv), db) == 2
    assert "c.audio.1.zip: not a whole zip file" in capsys.readouterr().err
    assert not (db / "corpus/audio/a.wav").exists()


def test_a_lost_member_is_said_and_only_its_archive_fetched(tsv, publisher, tmp_path, capsys):
    db = tmp_path / "db"
    run(tsv, db)
    publisher.seen.clear()
    (db / "corpus/audio/a.wav").unlink()
    (db / "corpus/audio/b.wav").write_bytes(b"cut")
    assert run(tsv, db) == 0
    out = capsys.readouterr().out
    assert f"{db}/corpus/audio/a.wav: missing or changed (1 of c.audio.1.zip)" in out
    assert sorted(publisher.seen) == ["c.audio.1.zip", "c.audio.2.zip"] and files(db) == WHOLE
    assert (db / "corpus/audio/b.wav").read_bytes() == NOISE[9000:20000]


def test_stopped_between_members(tsv, publisher, tmp_path, monkeypatch):
    """Killed while members move in place: not done, though the corpus looks as if it were."""
    db = tmp_path / "db"
    move = module.os.replace

    def stop(source: Any, target: Any) -> None:
        move(source, target)
        if Path(target).name == "meta.csv":
            raise SystemExit

    monkeypatch.setattr(module.os, "replace", stop)
    with pytest.raises(SystemExit):
        run(tsv, db, "--parallel", "1")
    monkeypatch.undo()
    assert (db / "corpus/meta.csv").exists()
    assert run(tsv, db) == 0 and files(db) == WHOLE


@pytest.mark.parametrize("below", ["", "corpus"])
def test_somebodys_copy_is_taken(tsv, publisher, tmp_path, capsys, below):
    db = tmp_path / "theirs"
    (db / "corpus").mkdir(parents=True)
    (db / "corpus/meta.csv").write_text("theirs")
    assert run(tsv, db / below) == 0
    assert "a copy is there" in capsys.readouterr().out
    assert publisher.seen == [] and sorted(p.name for p in db.rglob("*")) == ["corpus", "meta.csv"]


def test_another_corpus_in_the_same_place(tsv, publisher, tmp_path):
    publisher.files["d.zip"] = zipped({"other/x.csv": b"x"})
    other = table(
        publisher,
        tmp_path / "other.tsv",
        [f"d.zip\t{publisher.url}/d.zip\t{len(publisher.files['d.zip'])}\t"
         f"{md5(publisher.files['d.zip'])}"],
    )  # fmt: skip
    other.write_text(other.read_text().replace("corpus/meta.csv", "other/x.csv"))
    db = tmp_path / "db"
    (db / "corpus").mkdir(parents=True)
    (db / "corpus/meta.csv").write_text("theirs")
    assert run(other, db) == 0 and run(tsv, db) == 0
    assert publisher.seen == ["d.zip"]


@pytest.fixture
def words(publisher, tmp_path) -> Path:
    """The table of a corpus whose archive unpacks into the directory where it is."""
    members = {"./yes/a.wav": NOISE[:9000], "./no/a.wav": NOISE[9000:9500], "./LIST.txt": b"x\n"}
    publisher.files = {"words.tar.gz": tarred(members)}
    path = table(publisher, tmp_path / "words.tsv")
    text = path.read_text().replace("corpus/meta.csv", "words_v2/LIST.txt")
    path.write_text(text.replace("# holds: meta.csv", "# holds: LIST.txt\n# into: words_v2"))
    return path


def test_a_tar_archive_gets_a_directory_of_its_own(words, publisher, tmp_path, capsys):
    db = tmp_path / "db"
    assert run(words, db) == 0
    assert files(db) == ["words_v2/LIST.txt", "words_v2/no/a.wav", "words_v2/yes/a.wav"]
    assert (db / "words_v2/yes/a.wav").read_bytes() == NOISE[:9000]
    publisher.seen.clear()
    assert run(words, db) == 0 and publisher.seen == []
    (db / "words_v2/no/a.wav").unlink()
    assert run(words, db) == 0 and publisher.seen == ["words.tar.gz"] and len(files(db)) == 3
    assert run(words, db / "words_v2") == 0
    assert "a copy is there" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["../b", "up", "a/b", "."])
def test_a_directory_that_is_none(words, name):
    words.write_text(words.read_text().replace("into: words_v2", f"into: {name}\n# into: c"))
    with pytest.raises(UserError, match="must be one directory's name"):
        read_listing(words)


HALF = tarred({"a.wav": NOISE[:50_000]})


def broken_tars() -> dict[str, tuple[bytes, str]]:
    flipped = bytearray(tarred({"a.wav": b"0" * 5000}))
    flipped[-6] ^= 255  # of the checksum of all, behind the last member
    plain = tarred({"a.wav": NOISE[:5000]}, compress=False)
    inside = bytearray(HALF)
    inside[20_000] ^= 255
    return {
        "cut": (HALF[:30_000], "not a whole tar.gz file"),
        "cut at the checksum": (HALF[:-5], "not a whole tar.gz file"),
        "checksum": (bytes(flipped), "not a whole tar.gz file"),
        "inside": (bytes(inside), "not a whole tar.gz file"),
        "not compressed": (plain, "not a whole tar.gz file"),
        "web page": (b"<html>moved</html>", "not a whole tar.gz file"),
        "not a tar": (gzip.compress(b"plain text" * 99), "not a whole tar.gz file"),
        "cut before it was compressed": (gzip.compress(plain[:3000]), "not a whole tar.gz file"),
        "upwards": (tarred({"../a.wav": b"x"}), r"'\.\./a\.wav' would land outside"),
        "absolute": (tarred({"/tmp/a.wav": b"x"}), "would land outside"),
        "link": (tarred({"a": "/etc/passwd"}), "member 'a' is a link or a device"),
        "through a link": (tarred({"a": "..", "a/b": b"x"}), "member 'a' is a link or a device"),
    }


@pytest.mark.parametrize("kind", broken_tars())
def test_a_broken_tar_archive_is_one_line_and_leaves_nothing(
    kind, words, publisher, tmp_path, capsys
):
    data, says = broken_tars()[kind]
    old = publisher.files["words.tar.gz"]
    publisher.files["words.tar.gz"] = data
    text = (
        words.read_text()
        .replace(md5(old), md5(data))
        .replace(f"\t{len(old)}\t", f"\t{len(data)}\t")
    )
    words.write_text(text)
    db = tmp_path / "db"
    assert run(words, db) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line[:6] == "error:"]
    assert re.search(says, error)
    assert files(db) == ["words.tar.gz"] and not (tmp_path / "a.wav").exists()
    assert not list((db / ".archives" / "unpacking").iterdir())


def test_a_tar_archive_that_will_not_fit(tmp_path, monkeypatch):
    (tmp_path / "a.tar.gz").write_bytes(tarred({"a.wav": b"0" * 50_000}))
    usage = type("Usage", (), {"free": 50_000})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="needed to unpack"):
        extract_tar(tmp_path / "a.tar.gz", tmp_path)
    assert not (tmp_path / "a.wav").exists()


def test_a_tar_archive_of_no_bytes(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"not a whole tar\.gz file"):
        extract_tar(tmp_path / "a.tar.gz", tmp_path)


def test_space_is_asked_for_before_anything_is_fetched(tsv, publisher, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 20_000})  # each fits alone
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="needed to fetch and unpack 3 archives"):
        run(tsv, tmp_path / "db")
    assert publisher.seen == []


def test_a_full_disk_is_one_line(tsv, tmp_path, monkeypatch, capsys):
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "extract_zip", full)
    assert run(tsv, tmp_path / "db") == 2
    assert "error: c.meta.zip: No space left on device" in capsys.readouterr().err


def test_two_commands_at_once(tsv, tmp_path):
    with module.Store(tmp_path / "db").lock(), pytest.raises(UserError, match="another download"):
        run(tsv, tmp_path / "db")


def test_other_layout_than_expected(tsv, tmp_path, capsys):
    tsv.write_text(tsv.read_text().replace("meta.csv", "index.csv"))
    assert run(tsv, tmp_path / "db") == 2
    assert "there is no corpus/index.csv or index.csv" in capsys.readouterr().err


def test_sizes_and_checksums_from_a_record(publisher, tmp_path, capsys):
    publisher.files["NOTES.txt"] = b"plain"
    record = publisher.record(7, ["c.meta.zip", "c.audio.1.zip", "NOTES.txt"])
    tsv = table(publisher, tmp_path / "a.tsv", [f"*\t{record}\t-\t-"])
    db = tmp_path / "db"
    assert run(tsv, db) == 0
    assert "3 files, licence: cc-by-4.0" in capsys.readouterr().out
    assert files(db) == ["NOTES.txt", "corpus/README", "corpus/audio/a.wav", "corpus/meta.csv"]
    publisher.seen.clear()
    assert run(tsv, db) == 0 and publisher.seen == []  # pinned, whole: nobody is asked
    # The publisher's file changes: said as soon as the record is read again, and not taken.
    publisher.files["c.meta.zip"] = zipped({"corpus/meta.csv": b"new"})
    publisher.record(7, ["c.meta.zip", "c.audio.1.zip", "NOTES.txt"])
    (db / "NOTES.txt").unlink()
    assert run(tsv, db) == 2
    assert "c.meta.zip has changed since it was fetched: md5:" in capsys.readouterr().err
    assert (db / "corpus/meta.csv").read_bytes() == b"a\nb\n" and (db / "NOTES.txt").exists()
    (db / ".archives/c.meta.zip.json").unlink()
    assert run(tsv, db) == 0 and (db / "corpus/meta.csv").read_bytes() == b"new"


def test_one_file_of_a_record(publisher, tmp_path):
    record = publisher.record(7, ["c.meta.zip", "c.audio.1.zip"])
    tsv = table(publisher, tmp_path / "a.tsv", [f"c.meta.zip\t{record}\t-\t-"])
    assert run(tsv, tmp_path / "db") == 0
    assert files(tmp_path / "db") == ["corpus/README", "corpus/meta.csv"]
    tsv.write_text(tsv.read_text().replace("c.meta.zip", "c.mate.zip"))
    with pytest.raises(UserError, match=r"records/7: no file c\.mate\.zip in this record"):
        run(tsv, tmp_path / "db2")


@pytest.mark.parametrize(
    "record", [b"[]", b'{"files": [{}]}', b'{"files": [{"key": "../a", "size": 1}]}', b"<html>"]
)
def test_not_a_record(publisher, tmp_path, record):
    publisher.files["api/records/7"] = record
    tsv = table(publisher, tmp_path / "a.tsv", [f"*\t{publisher.url}/api/records/7\t-\t-"])
    for _ in range(2):  # the second time what the first one left is there
        with pytest.raises(UserError, match="record"):
            run(tsv, tmp_path / "db")


GOOD = "a.zip\thttps://x.org/a.zip\t5\tmd5:" + "0" * 32


@pytest.mark.parametrize(
    "rows, says",
    [
        ([GOOD, "a.zip\thttps://x.org/a.zip\t5"], r"a\.tsv:7: 3 fields, must be 4"),
        ([GOOD.replace("\t5\t", "\tfive\t")], r"a\.tsv:6: bytes 'five'"),
        ([GOOD.replace("md5", "crc")], r"a\.tsv:6: .*checksum 'crc:0"),
        ([GOOD, GOOD], r"a\.tsv:7: a\.zip is listed twice"),
        ([GOOD.replace("a.zip", "../a.zip", 1)], r"a\.tsv:6: file '\.\./a\.zip'"),
        ([GOOD.replace("https:", "ftp:")], r"a\.tsv:6: url 'ftp:"),
        (["*\thttps://x.org/a.zip\t-\t-"], r"a\.tsv:6: .*a record's url"),
        ([], r"a\.tsv: no archive in it"),
    ],
)
def test_malformed_table_names_the_line(publisher, tmp_path, rows, says):
    with pytest.raises(UserError, match=says):
        read_listing(table(publisher, tmp_path / "a.tsv", rows))


@pytest.mark.parametrize(
    "recipe, count, gigabytes",
    [
        ("dcase18", 15, 21.35),
        ("dcase19", 23, 35.62),
        ("dcase20a", 18, 27.36),
        ("dcase20b", 23, 35.54),
    ],
)
def test_tables_of_the_scenes(recipe, count, gigabytes):
    """Numbers of archives and sizes as the publisher's pages have them."""
    tsv = Path(__file__).resolve().parents[2] / "egs" / recipe / "local" / "archives.tsv"
    files = read_listing(tsv).files
    assert len(files) == count and len({file.checksum for file in files}) == count
    assert sum(file.size or 0 for file in files) / 1e9 == pytest.approx(gigabytes, abs=0.01)
    assert all(file.url.endswith(f"/files/{file.name}?download=1") for file in files)


def test_table_without_header_licence_or_file(publisher, tmp_path):
    path = table(publisher, tmp_path / "a.tsv", [GOOD])
    text = path.read_text()
    path.write_text(text.replace("file\turl", "name\turl"))
    with pytest.raises(UserError, match=r"a\.tsv:5: the header must be file, url"):
        read_listing(path)
    path.write_text(text.replace("# licence", "# license"))
    with pytest.raises(UserError, match="no line `# licence"):
        read_listing(path)
    with pytest.raises(UserError, match="no such table"):
        read_listing(tmp_path / "b.tsv")


def test_parts_of_a_split_archive_stand_together(publisher, tmp_path):
    names = ["x.zip", "y.zip", *(f"x.z{i:02d}" for i in (10, 2, 1))]
    rows = [GOOD.replace("a.zip", name) for name in names]
    x, y = group(read_listing(table(publisher, tmp_path / "a.tsv", rows)).files)
    assert [part.name for part in x.parts] == ["x.z01", "x.z02", "x.z10", "x.zip"]
    assert x.name == "x.zip" and [part.name for part in y.parts] == ["y.zip"] and x.size == 20


def split(whole: bytes, cuts: list[int], wide: bool = False) -> list[bytes]:
    """Cut a zip file into disks as the standard describes: a mark in front, each member's disk and
    place on that disk in the directory. `wide`: these numbers stand in 64-bit fields."""
    mark = b"PK\x07\x08"
    (size, start) = struct.unpack_from("<LL", whole, len(whole) - 10)
    bounds = [0, *(cut + 4 for cut in cuts)]

    def disk_of(place: int) -> tuple[int, int]:
        disk = max(i for i, bound in enumerate(bounds) if bound <= place)
        return disk, place - bounds[disk]

    directory, at = b"", start
    while at < start + size:
        head = bytearray(whole[at : at + 46])
        names, extras, comments = struct.unpack_from("<3H", head, 28)
        disk, place = disk_of(struct.unpack_from("<L", head, 42)[0] + 4)
        name = whole[at + 46 : at + 46 + names]
        extra = b""
        if wide:
            packed, unpacked = struct.unpack_from("<LL", head, 20)
            extra = struct.pack("<HHQQQL", 1, 28, unpacked, packed, place, disk)
            struct.pack_into("<LL", head, 20, 2**32 - 1, 2**32 - 1)
            place, disk = 2**32 - 1, 2**16 - 1
        struct.pack_into("<H", head, 30, len(extra))
        struct.pack_into("<H", head, 34, disk)
        struct.pack_into("<L", head, 42, place)
        directory += bytes(head) + name + extra
        at += 46 + names + extras + comments
    body = mark + whole[:start] + directory
    bounds = [bound for bound in bounds if bound < len(body)]
    disk, place = disk_of(start + 4)
    count = struct.unpack_from("<H", whole, len(whole) - 12)[0]
    last = len(bounds) - 1
    tail = struct.pack("<4s4H2LH", b"PK\5\6", last, disk, count, count, len(directory), place, 0)
    if wide:
        record = struct.pack(
            "<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, last, disk, count, count, len(directory), place
        )
        locator = struct.pack("<4sLQL", b"PK\6\7", *disk_of(len(body)), last + 1)
        full = 2**16 - 1
        tail = record + locator
        tail += struct.pack("<4s4H2LH", b"PK\5\6", full, full, full, full, 2**32 - 1, 2**32 - 1, 0)
    body += tail
    return [body[a:b] for a, b in zip(bounds, [*bounds[1:], len(body)], strict=True)]


MEMBERS = {f"top/{i}.bin": NOISE[i * 40_000 : i * 40_000 + 30_000 + i] for i in range(5)}


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("cuts", [[50_000, 100_000], [25_000 * i for i in range(1, 7)], []])
def test_split_archive(tmp_path, cuts, wide):
    """Members over the bounds of parts; a directory that begins in another part than it ends."""
    whole = zipped(MEMBERS)
    cuts = cuts or [whole.index(b"PK\1\2") + 60]
    parts = split(whole, cuts, wide)
    assert len(parts) == len(cuts) + 1
    for i, part in enumerate(parts[:-1], 1):
        (tmp_path / f"a.z{i:02d}").write_bytes(part)
    (tmp_path / "a.zip").write_bytes(parts[-1])
    with open_zip(tmp_path / "a.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == MEMBERS
    joined = tmp_path / "joined.zip"
    joined.write_bytes(b"".join(parts))
    with pytest.raises((zipfile.BadZipFile, UserError)), open_zip(joined) as archive:
        archive.testzip()  # what `cat` makes of them is no zip file


def test_split_archive_with_a_part_missing_or_cut(tmp_path):
    parts = split(zipped(MEMBERS), [50_000, 100_000])
    (tmp_path / "a.zip").write_bytes(parts[2])
    (tmp_path / "a.z02").write_bytes(parts[1])
    with pytest.raises(UserError, match=r"a\.z01: part 1 of a\.zip is missing"):
        download.extract_zip(tmp_path / "a.zip", tmp_path)
    (tmp_path / "a.z02").unlink()
    with pytest.raises(UserError, match=r"a\.z01: part 1 of a\.zip is missing"):
        download.extract_zip(tmp_path / "a.zip", tmp_path)
    (tmp_path / "a.z01").write_bytes(parts[0][:-1])
    (tmp_path / "a.z02").write_bytes(parts[1])
    with pytest.raises(UserError, match="not a whole zip"):
        download.extract_zip(tmp_path / "a.zip", tmp_path)


@pytest.mark.skipif(not shutil.which("zip"), reason="no zip program")
def test_split_archive_of_the_zip_program(tmp_path):
    (tmp_path / "big.bin").write_bytes(NOISE)
    (tmp_path / "small.txt").write_bytes(b"text")
    command = ["zip", "-q", "-s", "64k", "a.zip", "big.bin", "small.txt"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / "a.z04").exists()
    (tmp_path / "out").mkdir()
    download.extract_zip(tmp_path / "a.zip", tmp_path / "out")
    assert (tmp_path / "out/big.bin").read_bytes() == NOISE
    assert (tmp_path / "out/small.txt").read_bytes() == b"text"


def test_split_archive_is_fetched_and_unpacked(publisher, tmp_path):
    parts = split(publisher.files["c.meta.zip"], [60])
    publisher.files = {"c.z01": parts[0], "c.zip": parts[1]}
    tsv = table(publisher, tmp_path / "a.tsv")
    db = tmp_path / "db"
    assert run(tsv, db) == 0 and files(db) == ["corpus/README", "corpus/meta.csv"]
    publisher.seen.clear()
    assert run(tsv, db) == 0 and publisher.seen == []
