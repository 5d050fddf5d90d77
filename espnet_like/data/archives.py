"""A corpus of many archives on this machine: fetched several at a time, unpacked, kept whole.

`<db>/.archives` holds what is known of each archive that was begun:

    <name>.json     its parts with their checksums, and, once all of it is in place, its members
                    with their sizes
    records.json    Zenodo's records as they were when all of their files were in place
    unpacking/      archives on their way; emptied when they are in place, or begun anew

Archives of one corpus unpack into common directories, so they are moved in place file by file. An
archive counts as done when its json has members and these are there with their sizes; nothing else
does.
"""

from __future__ import annotations

import os
import queue
import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from espnet_like.data.download import extract_zip, fetch, require_space
from espnet_like.data.listing import Archive, File, Listing, group, read_record
from espnet_like.data.tar_archive import extract_tar
from espnet_like.errors import UserError
from espnet_like.files import alone, read_json, write_json

# Bytes that a byte of an archive of recordings makes, about.
UNPACKED = {"zip": 1.25, "tar": 1.5, "file": 0.0}


class Store:
    """The state of a corpus's archives below `db`, which unpack into `db`/`into`."""

    def __init__(self, db: Path, into: str = "") -> None:
        self.db, self.into = db, into
        self.home = db / ".archives"

    def state(self, archive: Archive) -> dict[str, Any] | None:
        path = self.home / f"{archive.name}.json"
        return read_json(path) if path.exists() else None

    def sources(self) -> set[str]:
        """Addresses that anything here was fetched from."""
        states = (read_json(path) for path in self.home.glob("*.json"))
        return {source for state in states for source in state.get("sources", ())}

    def begin(self, archive: Archive) -> None:
        self._write(archive, None)

    def finish(self, archive: Archive, members: dict[str, int]) -> None:
        self._write(archive, members)

    def _write(self, archive: Archive, members: dict[str, int] | None) -> None:
        write_json(
            self.home / f"{archive.name}.json",
            {
                "sources": sorted({part.source for part in archive.parts}),
                "parts": {part.name: part.checksum for part in archive.parts},
                "members": members,
            },
        )

    def lost(self, archive: Archive) -> list[str] | None:
        """Members that are not in place; None if the archive was never whole here.

        Raises:
            UserError: it was, with another checksum than it has now.
        """
        state = self.state(archive)
        if state is None or state["members"] is None:
            return None
        for part in archive.parts:
            known = state["parts"].get(part.name)
            if known != part.checksum:
                raise UserError(
                    f"{part.source}: {part.name} has changed since it was fetched: {known} then, "
                    f"{part.checksum} now: what was unpacked stays; remove "
                    f"{self.home / archive.name}.json to fetch the new one"
                )
        return [name for name, size in state["members"].items() if self._size(name) != size]

    def _size(self, name: str) -> int:
        try:
            return (self.db / name).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return -1

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second command off this directory."""
        with alone(self.home / "lock", f"{self.db}: another download is running here"):
            yield


def own_copy(listing: Listing, db: Path) -> Path | None:
    """A file of the corpus that shows that somebody put a copy at `db` without this module."""
    found = next((path for pattern in listing.holds for path in db.glob(pattern)), None)
    ours = {file.source for file in listing.files} & Store(db).sources()
    return None if ours else found


def get(listing: Listing, db: Path, parallel: int = 4, keep: bool = False) -> list[UserError]:
    """Bring the corpus of `listing` below `db`, unless it is there.

    Args:
        listing: its archives.
        db: where it goes.
        parallel: archives at a time.
        keep: leave the archives there when they are unpacked.

    Returns:
        What kept archives from being in place; all others are.

    Raises:
        UserError: nothing can be done: no record, no space for what is missing.
    """
    if copy := own_copy(listing, db):
        print(f"{copy}: a copy is there, nothing to fetch")
        return []
    store = Store(db, listing.into)
    with store.lock():
        archives = _resolve(listing, store)
        missing, failures = [], []
        for archive in archives:
            try:
                lost = store.lost(archive)
            except UserError as error:
                failures.append(error)
                continue
            if lost:
                print(f"{db / lost[0]}: missing or changed ({len(lost)} of {archive.name})")
            if lost is None or lost:
                missing.append(archive)
        if missing:
            _require_space(db, missing, parallel, keep)
            size = sum(archive.size for archive in missing)
            print(f"licence: {listing.licence}")
            print(f"{len(missing)} archives, {size / 1e6:,.1f} MB, to {db}", flush=True)
            failures += _in_parallel(store, missing, parallel, keep)
        if not failures:
            _pin(store, archives)
            failures += _check_holds(listing, db)
        if not failures:
            print(f"{db}: all {len(archives)} archives are in place")
    return failures


def _resolve(listing: Listing, store: Store) -> list[Archive]:
    """The archives, with what records say of them. A record whose files are all in place is not
    asked again."""
    files = [file for file in listing.files if file.checksum]
    path = store.home / "records.json"
    pins = read_json(path)["records"] if path.exists() else {}
    for url in dict.fromkeys(file.url for file in listing.files if not file.checksum):
        names = [file.name for file in listing.files if file.url == url and not file.checksum]
        if url in pins:
            pinned = [File(**entry) for entry in pins[url]]
            known = {file.name for file in pinned}
            whole = all(store.lost(archive) == [] for archive in group(pinned))
            if whole and known.issuperset(name for name in names if name != "*"):
                files += pinned
                continue
        target = store.home / "record"  # not *.json, which are states
        target.unlink(missing_ok=True)
        fetch(url, target)
        record, licence = read_record(read_json(target), url, names)
        target.unlink()
        print(f"{url}: {len(record)} files, licence: {licence}")
        files += record
    return group(files)


def _pin(store: Store, archives: Sequence[Archive]) -> None:
    records: dict[str, list[dict[str, Any]]] = {}
    for part in (part for archive in archives for part in archive.parts):
        if part.source != part.url:
            records.setdefault(part.source, []).append(vars(part))
    path = store.home / "records.json"
    old = read_json(path)["records"] if path.exists() else {}
    if old | records != old:
        write_json(path, {"records": old | records})


def _check_holds(listing: Listing, db: Path) -> list[UserError]:
    if any(next(db.glob(pattern), None) for pattern in listing.holds):
        return []
    return [
        UserError(
            f"{db}: all archives are unpacked, but there is no {' or '.join(listing.holds)}: has "
            "the publisher changed the layout?"
        )
    ]


def _require_space(db: Path, missing: Sequence[Archive], parallel: int, keep: bool) -> None:
    """Refuse to begin what will not fit: what is unpacked, and the archives that are there at a
    time."""
    rest = []
    for archive in missing:
        there = 0
        for part in archive.parts:
            for path in (db / part.name, db / f"{part.name}.part"):
                there += path.stat().st_size if path.exists() else 0
        rest.append(max(0, archive.size - there))
    unpacked = sum(UNPACKED[archive.kind] * archive.size for archive in missing)
    require_space(
        db,
        round(unpacked) + sum(rest if keep else sorted(rest)[-parallel:]),
        f"fetch and unpack {len(missing)} archives",
    )


def _in_parallel(
    store: Store, archives: Sequence[Archive], parallel: int, keep: bool
) -> list[UserError]:
    """Fetch and unpack; one archive's failure does not stop the others."""
    todo: queue.SimpleQueue[Archive] = queue.SimpleQueue()
    for archive in archives:
        todo.put(archive)
    failures: list[UserError] = []
    broken: list[BaseException] = []

    def work() -> None:
        while not broken:
            try:
                archive = todo.get_nowait()
            except queue.Empty:
                return
            try:
                _bring(store, archive, keep)
                print(f"{archive.name}: in place", flush=True)
            except UserError as error:
                failures.append(error)
                print(f"{archive.name}: failed", file=sys.stderr, flush=True)
            except OSError as error:
                where = f"{error.filename}: " if error.filename else ""
                reason = error.strerror or error
                failures.append(UserError(f"{archive.name}: {where}{reason}: mend and run again"))
            except BaseException as error:
                broken.append(error)

    # Daemons: Ctrl-C ends the command at once, and what has come is continued by the next one.
    workers = [threading.Thread(target=work, daemon=True) for _ in range(parallel)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if broken:
        raise broken[0]
    return failures


def _bring(store: Store, archive: Archive, keep: bool) -> None:
    """Fetch an archive's parts, unpack them beside, move the members in place, say so."""
    paths = [store.db / part.name for part in archive.parts]
    if archive.kind == "file":  # in place as soon as it has come
        store.begin(archive)
    for part, path in zip(archive.parts, paths, strict=True):
        fetch(part.url, path, part.size, part.checksum)
    if archive.kind == "file":
        store.finish(archive, {part.name: part.size or 0 for part in archive.parts})
        return
    scratch = store.home / "unpacking" / archive.name
    shutil.rmtree(scratch, ignore_errors=True)
    (scratch / store.into).mkdir(parents=True)
    try:
        extract = extract_tar if archive.kind == "tar" else extract_zip
        extract(paths[-1], scratch / store.into)
        store.begin(archive)
        store.finish(archive, _merge(scratch, store.db))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if not keep:
        for path in paths:
            path.unlink()


def _merge(source: Path, target: Path) -> dict[str, int]:
    """Move every file of a tree to the same place below `target`; return them with their sizes."""
    members = {}
    for folder, _, names in os.walk(source):
        to = target / Path(folder).relative_to(source)
        to.mkdir(parents=True, exist_ok=True)
        for name in sorted(names):
            path = Path(folder) / name
            members[str((to / name).relative_to(target))] = path.stat().st_size
            os.replace(path, to / name)
    return members
