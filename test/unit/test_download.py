"""Downloads against a server of our own: breaks, resumes, lies, refuses."""

from __future__ import annotations

import hashlib
import socket
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from espnet_like.data import download
from espnet_like.data.download import fetch, unpack_zip
from espnet_like.errors import UserError

BODY = bytes(range(256)) * 4000  # about 1 MB
MD5 = "md5:" + hashlib.md5(BODY).hexdigest()
SHA = "sha256:" + hashlib.sha256(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves `body`; what goes wrong is set on the class by each test."""

    body: ClassVar[bytes] = BODY
    etag: ClassVar[str] = '"one"'
    ranges: ClassVar[bool] = True
    drop_after: ClassVar[list[int]] = []  # bytes sent before the connection breaks, per request
    status: ClassVar[list[int]] = []  # answers before a good one
    seen: ClassVar[list[str | None]] = []  # Range of each request

    def do_GET(self) -> None:
        cls = type(self)
        cls.seen.append(self.headers.get("Range"))
        if cls.status:
            self.send_error(cls.status.pop(0))
            return
        start = 0
        fits = self.headers.get("If-Range") in (None, cls.etag)
        if cls.ranges and fits and (asked := self.headers.get("Range")):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(cls.body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(cls.body)}")
                self.end_headers()
                return
            self.send_response(206)
            last = len(cls.body) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(cls.body)}")
        else:
            self.send_response(200)
        if cls.etag:
            self.send_header("ETag", cls.etag)
        data = cls.body[start:]
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if cls.drop_after:
            self.wfile.write(data[: cls.drop_after.pop(0)])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, type[Handler]]]:
    handler = type("Fresh", (Handler,), {"drop_after": [], "status": [], "seen": []})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}/a.zip", handler
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def left(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.iterdir())


@pytest.mark.parametrize("checksum", [MD5, SHA, None])
def test_whole_file_is_fetched_once(server, tmp_path, checksum):
    url, handler = server
    path = tmp_path / "deep" / "a.zip"
    assert fetch(url, path, len(BODY), checksum)
    assert path.read_bytes() == BODY and left(path.parent) == ["a.zip"]
    assert not fetch(url, path, len(BODY), checksum)
    assert len(handler.seen) == 1


def test_broken_connection_is_continued(server, tmp_path):
    url, handler = server
    handler.drop_after = [300_000, 200_000]
    fetch(url, tmp_path / "a.zip", checksum=MD5, wait=0)
    assert (tmp_path / "a.zip").read_bytes() == BODY
    # What arrived before a break is not asked for again.
    starts = [int(r.removeprefix("bytes=").rstrip("-")) for r in handler.seen[1:]]
    assert len(starts) == 2 and 0 < starts[0] <= 300_000 and starts[0] < starts[1] <= 500_000


def test_next_run_continues_and_gives_up_keeps_what_came(server, tmp_path):
    url, handler = server
    handler.drop_after, handler.status = [400_000], []
    with pytest.raises(UserError, match="run again"):
        fetch(url, tmp_path / "a.zip", checksum=MD5, wait=0, attempts=1)
    part = tmp_path / "a.zip.part"
    kept = part.stat().st_size
    assert 0 < kept <= 400_000 and part.read_bytes() == BODY[:kept]
    assert not (tmp_path / "a.zip").exists()
    fetch(url, tmp_path / "a.zip", checksum=MD5)
    assert handler.seen[-1] == f"bytes={kept}-"
    assert (tmp_path / "a.zip").read_bytes() == BODY and left(tmp_path) == ["a.zip"]


def test_server_without_ranges_starts_over(server, tmp_path):
    url, handler = server
    handler.ranges, handler.drop_after = False, [300_000]
    fetch(url, tmp_path / "a.zip", checksum=SHA, wait=0)
    assert (tmp_path / "a.zip").read_bytes() == BODY


def test_changed_file_is_not_spliced(server, tmp_path):
    url, handler = server
    handler.drop_after = [300_000]
    with pytest.raises(UserError):
        fetch(url, tmp_path / "a.zip", attempts=1)
    handler.body, handler.etag = BODY[::-1], '"two"'
    fetch(url, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == BODY[::-1]


def test_no_validator_and_nothing_known_starts_over(server, tmp_path):
    url, handler = server
    handler.etag = ""
    (tmp_path / "a.zip.part").write_bytes(b"x" * 1000)
    fetch(url, tmp_path / "a.zip")
    assert handler.seen == [None] and (tmp_path / "a.zip").read_bytes() == BODY


def test_whole_part_needs_no_network(tmp_path):
    (tmp_path / "a.zip.part").write_bytes(BODY)
    assert fetch("http://127.0.0.1:9/a.zip", tmp_path / "a.zip", len(BODY), MD5)
    assert left(tmp_path) == ["a.zip"]


def test_complete_part_of_unknown_size(server, tmp_path):
    url, handler = server
    (tmp_path / "a.zip.part").write_bytes(BODY)
    fetch(url, tmp_path / "a.zip", checksum=MD5)
    assert handler.seen == [f"bytes={len(BODY)}-"]
    assert (tmp_path / "a.zip").read_bytes() == BODY


@pytest.mark.parametrize("size, checksum", [(len(BODY) + 1, None), (None, "md5:" + "0" * 32)])
def test_other_contents_than_expected(server, tmp_path, size, checksum):
    url, _ = server
    with pytest.raises(UserError, match=r"expected .* found .*run again") as error:
        fetch(url, tmp_path / "a.zip", size, checksum, attempts=2, wait=0)
    assert "a.zip" in str(error.value) and left(tmp_path) == []


def test_damaged_file_in_place_is_said_and_kept(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"half")
    with pytest.raises(UserError, match="expected 1024000 bytes, found 4: remove it"):
        fetch("http://127.0.0.1:9/a.zip", tmp_path / "a.zip", len(BODY), MD5)
    assert left(tmp_path) == ["a.zip"]


def test_busy_server_is_tried_again_and_a_missing_file_is_not(server, tmp_path):
    url, handler = server
    handler.status = [503, 500]
    fetch(url, tmp_path / "a.zip", wait=0)
    assert len(handler.seen) == 3
    handler.status = [404]
    with pytest.raises(UserError, match="HTTP 404") as error:
        fetch(url, tmp_path / "b.zip", wait=0)
    assert len(handler.seen) == 4 and str(tmp_path / "b.zip") in str(error.value)
    assert left(tmp_path) == ["a.zip"]


def test_no_network(tmp_path):
    with socket.socket() as closed:  # a port that nobody listens on
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/a.zip"
        with pytest.raises(UserError, match=r"cannot be fetched.*check the network") as error:
            fetch(url, tmp_path / "a.zip", attempts=2, wait=0)
    assert "\n" not in str(error.value) and left(tmp_path) == []


def test_no_space_is_said_before_anything_is_fetched(server, tmp_path, monkeypatch):
    url, _ = server
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"1 MB needed .* 0 MB free"):
        fetch(url, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists() and not (tmp_path / "a.zip.part").exists()


def make_zip(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def test_unpack(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"top/x/1": "one", "top/2": "two"})
    assert unpack_zip(archive, tmp_path / "out") == [tmp_path / "out" / "top"]
    assert (tmp_path / "out/top/x/1").read_text() == "one"
    assert left(tmp_path / "out") == ["top"]
    (tmp_path / "out/top/2").write_text("mine")
    unpack_zip(archive, tmp_path / "out")  # what is there stays
    assert (tmp_path / "out/top/2").read_text() == "mine"


@pytest.mark.parametrize("name", ["../evil", "top/../../evil", "/evil", "..\\evil"])
def test_unpack_refuses_members_outside(tmp_path, name):
    archive = make_zip(tmp_path / "a.zip", {"top/1": "one", name: "evil"})
    with pytest.raises(UserError, match="outside"):
        unpack_zip(archive, tmp_path / "out")
    assert left(tmp_path / "out") == [] and left(tmp_path) == ["a.zip", "out"]


def test_unpack_leaves_nothing_of_a_broken_archive(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"top/1": "one" * 1000, "top/2": "two" * 1000})
    data = bytearray(archive.read_bytes())
    data[4000] ^= 255  # within the second member
    archive.write_bytes(data)
    with pytest.raises(UserError, match="not a whole zip"):
        unpack_zip(archive, tmp_path / "out")
    archive.write_bytes(data[:2000])
    with pytest.raises(UserError, match="not a whole zip"):
        unpack_zip(archive, tmp_path / "out")
    assert left(tmp_path / "out") == []
