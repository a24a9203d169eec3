"""Everything that was written below some folders, decoded far enough that a secret cannot hide in it.

Databases are read value by value (their files hold strings in pieces, or compressed), archives are unpacked, and a
secret is looked for in every spelling that a serializer may give it: as it is, in UTF-16, in hexadecimal digits, and
in base64 at whatever place it stands in what was encoded.
"""

import base64
import gzip
import io
import shutil
import sqlite3
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import duckdb

SIDE_FILES = ("-wal", "-shm", ".wal")


def found_in(secret: str, writings: Iterable[tuple[str, bytes]]) -> list[str]:
    """The places at which the secret stands, in any spelling."""
    wanted = spellings(secret)
    return [place for place, data in writings if any(spelling in data for spelling in wanted)]


def spellings(secret: str) -> set[bytes]:
    """What to look for."""
    plain = secret.encode()
    forms = [plain, secret.encode("utf-16-le"), secret.encode("utf-16-be")]
    return {*forms, plain.hex().encode(), plain.hex().upper().encode(), *in_base64(plain)}


def in_base64(secret: bytes) -> Iterator[bytes]:
    """The part of its base64 that does not depend on the neighbours, for each of the three places it may start at."""
    for before in range(3):
        whole = base64.b64encode(bytes(before) + secret + bytes(3))
        sure = whole[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]
        yield sure
        yield sure.translate(bytes.maketrans(b"+/", b"-_"))


def everything_below(folders: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    """Every file, as it is and decoded, with its place."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                yield from decoded(str(path), path.read_bytes(), path)


def decoded(place: str, data: bytes, path: Path | None = None) -> Iterator[tuple[str, bytes]]:
    """Some bytes, and what they contain."""
    yield place, data
    if data.startswith(b"\x1f\x8b"):
        yield from decoded(f"{place}: unpacked", gzip.decompress(data))
    elif data.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                yield from decoded(f"{place}: {name}", archive.read(name))
    elif path is not None and data.startswith(b"SQLite format 3"):
        yield from rows_of_sqlite(path)
    elif path is not None and data[8:12] == b"DUCK":
        yield from rows_of_duckdb(path)


def rows_of_sqlite(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every row of a copy, one line of values each."""
    with tempfile.TemporaryDirectory() as folder:
        copy = _copied(path, Path(folder))
        connection = sqlite3.connect(copy)
        connection.text_factory = bytes
        for (table,) in connection.execute("select name from sqlite_master where type = 'table'").fetchall():
            name = table.decode()
            for row in connection.execute(f'select * from "{name}"'):
                values = [one if isinstance(one, bytes) else str(one).encode() for one in row]
                yield f"{path}: {name}", b"\n".join(values)
        connection.close()


def rows_of_duckdb(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every row of a copy, what its write-ahead log holds included; nested values as text."""
    with tempfile.TemporaryDirectory() as folder, duckdb.connect(_copied(path, Path(folder))) as connection:
        tables = connection.execute("select table_name from duckdb_tables()").fetchall()
        for (table,) in tables:
            for (line,) in connection.execute(f"select one::varchar from {table} as one").fetchall():
                yield f"{path}: {table}", line.encode()


def _copied(path: Path, folder: Path) -> str:
    for one in (path, *(Path(f"{path}{ending}") for ending in SIDE_FILES)):
        if one.exists():
            shutil.copy(one, folder)
    return str(folder / path.name)
