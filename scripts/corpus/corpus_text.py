"""Text cleaning for the human corpus: pure functions from raw text to clean text, standard library only.

One convention for every domain: a document is lines separated by a single newline, one paragraph (or one line of
verse) a line, no empty lines, no runs of spaces.
"""

import html
import re
import unicodedata
from collections.abc import Callable, Iterable

SPACES = dict.fromkeys(map(ord, "\u00a0\u2002\u2003\u2009\u200a\u202f\t"), " ")
INVISIBLE = dict.fromkeys(map(ord, "\ufeff\u00ad\u200b\u200c\u200d\u200e\u200f"))
SPACED_DOTS = re.compile(r"\.(?: {1,3}\.){2,}")
SPACE_BEFORE_POINT = re.compile(r" +(?=[,;:!?](?:\s|$)|\.(?:\s|$))")


def tidy(text: str) -> str:
    """One clean line: NFC, plain spaces, no control characters, ellipses as '...'.  tidy('a \\u00a0 b .') -> 'a b.'"""
    text = unicodedata.normalize("NFC", text).translate(SPACES).translate(INVISIBLE)
    text = "".join(c if unicodedata.category(c) != "Cc" else " " for c in text)
    text = re.sub(r" +", " ", SPACED_DOTS.sub("...", text))
    text = re.sub(r"(?<=\() +| +(?=\))", "", SPACE_BEFORE_POINT.sub("", text))
    text = re.sub(r"(?<=[a-z]{2}[.;:?!])(?=[A-Z][a-z])", " ", text)  # "the year.The next": a space fell out
    text = re.sub(r"(?<=[.,;:?!][\u201d\u2019])(?=[A-Za-z\u201c])", " ", text)
    return re.sub(r"([,;])\1+", r"\1", text).strip()


def join_lines(lines: Iterable[str]) -> str:
    """Tidied lines that still hold a letter or a digit, joined by newlines."""
    return "\n".join(line for line in map(tidy, lines) if any(c.isalnum() for c in line))


def has_no_lowercase(line: str) -> bool:
    """Return True for a line with at least two letters and none of them lowercase: 'THE NAVY.' but not '1905'."""
    letters = [c for c in line if c.isalpha()]
    return len(letters) > 1 and not any(c.islower() for c in letters)


def c1_as_cp437(text: str) -> str:
    """C1 control characters are bytes of code page 437 read as Latin-1: 'Thom\\x82' -> 'Thomé'."""
    return re.sub("[\x80-\x9f]", lambda m: m.group().encode("latin-1").decode("cp437"), text)


def space_quotes(line: str) -> str:
    """Straight quotation marks moved to their words, by parity; a line whose marks do not pair off is left alone.

    space_quotes('He said, "Come, "and left.') -> 'He said, "Come," and left.'
    """
    parts = line.split('"')
    if len(parts) % 2 == 0:
        return line
    for at in range(1, len(parts) - 1, 2):  # parts[at] is inside quotation marks
        before, inside, after = parts[at - 1], parts[at], parts[at + 1]
        opens_badly = before and before[-1].isalnum() and inside[:1] in ("", " ")
        closes_badly = inside[-1:] == " " and inside[-2:-1].isalnum() and after[:1].isalnum()
        if opens_badly or closes_badly or not inside.strip():
            return line
        parts[at] = inside.strip()
        if after[:1].isalnum() or after[:1] == "(":
            parts[at + 1] = " " + after
        if (before and before[-1] in ",;:.!?") or (at > 1 and not before):
            parts[at - 1] = before + " "
    return '"'.join(parts)


# --- State of the Union -----------------------------------------------------------------------------------------

EDITORIAL = re.compile(r"\s*\[([^\[\]]*)\](\*?)")
DATE = re.compile(r"\d{4}-\d\d(?:-\d\d)?|\d{4}- \d\d|March 27|1833 October|1833")
SUPPLIED = {
    "the States",
    "It",
    "Act",
    "oil",
    "un",
    "$",
    "the",
    "on",
    "in",
    "full",
    "to",
    "my plan",
    "we're",
    "former Senator Henry M.",
    "An eminent Colombian",
    "an eminent Colombian",
}
SPEAKER = re.compile(r"^(?:The President|Mr\. President|President [A-Z]\w+)\. (?=\S)")
HECKLER = re.compile(
    r"^(?:Audience members?|Members? of (?:the audience|Congress)|The audience|Rep\. [A-Z]\w+"
    r"|Representative [A-Z][\w. ]+?|Speaker [A-Z]\w+|Senator [A-Z]\w+)\. (?=\S)"
)
# The typist of the early messages wrote "#" for "number" and "<" for "less than"; the rest are single slips.
SOTU_SLIPS = (
    ("Ô", "'"),
    ("Õ", "'"),
    ("o£", "of"),
    ("await&", "await"),
    (" # ", " number "),
    ("<$", "less than $"),
    ("of____for", "of blank for"),
    ("||", ""),
    ("[ set out", "I set out"),
    (". .The", ". The"),
    ("three more ),ears", "three more years"),
    ("\u201c", '"'),
    ("\u201d", '"'),
    ("\u2018", "'"),
    ("\u2044", "/"),
)


def _editorial(match: re.Match[str]) -> str:
    """Keep what the editor supplied for a gap, drop what he added beside the text (corrections, stage directions)."""
    inside = match.group(1).strip()
    before = match.string[: match.start()].rstrip()
    if DATE.fullmatch(inside):
        return "" if before.endswith("last") else " " + inside.replace(" ", "" if "-" in inside else " ")
    if inside in SUPPLIED or len(inside) > 200:
        lead = "" if not before else " "
        return lead + inside
    return ""


def _is_table(line: str) -> bool:
    """Return whether a line is a row of a table: mostly digits, or dot leaders.  '1932 10.6 55.0' -> True"""
    dense = line.replace(" ", "")
    numbers = re.findall(r"\d[\d,.]*", line)
    digits = sum(c.isdigit() or c in ",.$%-+()" for c in dense)
    return bool(re.search(r"(?:\. ?){5,}", line)) or (len(numbers) >= 2 and digits > 0.5 * len(dense))


def _is_heading(line: str) -> bool:
    """Return whether a line is a section head, signature or date: 'THE NAVY.', 'Arms Control', 'December 3, 1929'."""
    if line.endswith(":"):
        return False
    if has_no_lowercase(line) and len(line) < 120:
        return True
    if re.fullmatch(
        r"(?:The White House,?|P(?:ART|art) [IVX\d]+\.?|[A-Z][a-z]+ \d{1,2}, \d{4}\.?|[IVXLC]+\.?|\(?\d{1,2}[.)]?)",
        line,
    ):
        return True
    return len(line) < 80 and line[0].isupper() and not re.search(r"[.?!:;,\"')\]—-]$", line)


def clean_sotu(raw: str) -> str:
    """Return a speech without stage directions, editor's brackets, interruptions, headings, tables and signatures."""
    for slip, fixed in SOTU_SLIPS:
        raw = raw.replace(slip, fixed)
    raw = re.sub(r"\(\[?see APP note\.?\]?\)", "", EDITORIAL.sub(_editorial, raw), flags=re.I)
    raw = re.sub(r"[\[\]]", "", raw)
    kept = []
    for block in re.split(r"\n\s*\n", raw):
        rows = [row for row in map(tidy, block.splitlines()) if row]
        if sum(map(_is_table, rows)) * 3 < len(rows) or len(rows) == 1:
            kept += _rejoin(rows)
    return join_lines(line for line in map(_clean_sotu_line, kept) if line)


def _rejoin(rows: list[str]) -> list[str]:
    """Rows that a stray line end cut in the middle of a sentence, put together again."""
    joined: list[str] = []
    for row in rows:
        if joined and row[0].islower() and re.search(r"[a-z,]$", joined[-1]):
            joined[-1] += " " + row
        else:
            joined.append(row)
    return joined


def _clean_sotu_line(line: str) -> str:
    """Return the line as spoken or written, or nothing for a heading, a table row or somebody else's words."""
    line = tidy(re.sub(r"[*_•]+", "", line))
    if not line or line.startswith("Jump to") or HECKLER.match(line) or _is_table(line) or _is_heading(line):
        return ""
    return space_quotes(re.sub(r"^—+", "", SPEAKER.sub("", line)))


# --- novels -----------------------------------------------------------------------------------------------------

PART_HEAD = re.compile(r"(?:BOOK|PART|VOLUME|Volume) (?:[IVX]+|ONE|TWO|THREE|\d)\.?", re.I)
CHAPTER_HEAD = re.compile(r"(?:CHAPTER|Chapter) (?:[IVXLC]+|\d+|[A-Z][A-Z-]+)\.?(?:\n.*)?", re.S)
BOOK_END = re.compile(r"(?:THE END|Finis|FINIS|\[?THE END\]?|\(?End of volume \w+\.?\)?|A NOTE ON THE TEXT)\.?", re.I)
VERSE_WIDTH = 55


def blocks(lines: Iterable[str]) -> list[str]:
    """Blocks of consecutive non-empty lines, each still hard-wrapped."""
    joined = "\n".join(line.rstrip() for line in lines)
    return [block.strip("\n") for block in re.split(r"\n\s*\n", joined) if block.strip()]


def unwrap(block: str) -> str:
    """Return a hard-wrapped block as one line; verse (every line short and capitalised) keeps its lines.

    unwrap('It was a\\nhard-wrapped line.') -> 'It was a hard-wrapped line.'
    """
    lines = [line.strip() for line in block.split("\n")]
    verse = len(lines) > 1 and all(len(x) < VERSE_WIDTH and re.match(r"[\"'(]*[A-Z]", x) for x in lines)
    return "\n".join(lines) if verse else " ".join(lines)


def strip_emphasis(text: str) -> str:
    """Underscores and asterisks used as italics, marks of footnotes and editors' notes in brackets go."""
    text = re.sub(r"\[(?:At this point|Transcriber|Illustration|Footnote)[^\]]*\]|\[\d+\]|\*+", "", text)
    return text.replace("_", "").replace("[", "(").replace("]", ")").replace("`", "'")


def novel_chapters(lines: Iterable[str]) -> list[str]:
    """Chapters of a book in order, clean. What stands before the first chapter head, and heads of parts, is dropped."""
    chapters: list[list[str]] = []
    between, fresh = True, False
    for block in blocks(lines):
        bare = block.strip()
        if CHAPTER_HEAD.fullmatch(bare) and len(bare) < 120:
            chapters.append([])
            between, fresh = False, True
        elif BOOK_END.fullmatch(bare) or (PART_HEAD.fullmatch(bare.split("\n")[0]) and len(bare) < 80):
            between = True
        elif between or re.match(r"\[\d+\] |\*\w", bare):  # front matter, footnotes
            continue
        elif fresh and has_no_lowercase(bare.replace("deg.", "")) and len(bare) < 120:
            fresh = False  # the chapter's title
        else:
            fresh = False
            chapters[-1].append(strip_emphasis(unwrap(block)))
    return [join_lines("\n".join(chapter).split("\n")) for chapter in chapters]


# --- OSIS (bible, commentary, sermon) ---------------------------------------------------------------------------

OSIS_GONE = re.compile(r"<note\b.*?</note>|<rdg\b.*?</rdg>|<speaker\b.*?</speaker>|<table>.*?</table>", re.S)
OSIS_TITLE = re.compile(r"<title\b[^>]*>(.*?)</title>", re.S)
OSIS_BREAK = re.compile(
    r"<(?:div [^>]*type=\"(?:x-p|introduction|book)\"|l |l>|lb\b|lg\b|item\b|/item|chapter\b|list|/list)[^>]*>"
)


def osis_lines(xml: str, title: Callable[[str], str] = lambda _: "") -> list[str]:
    """Paragraphs and verse lines of an OSIS fragment, tags and notes gone; `title` says what becomes of a title."""
    xml = OSIS_GONE.sub(" ", re.sub(r"\s+", " ", xml))
    xml = OSIS_TITLE.sub(lambda m: "\n" + title(m.group(1)) + "\n", xml)
    text = re.sub(r"<[^>]*>", "", OSIS_BREAK.sub("\n", xml))
    return [line for line in map(tidy, html.unescape(text).split("\n")) if line]


def clean_bible(xml: str) -> str:
    """Return a chapter: prose paragraphs and lines of verse, without notes, titles, speakers and square brackets."""
    return join_lines(re.sub(r"[\[\]]", "", line) for line in osis_lines(xml))


VERSES_LABEL = re.compile(r"^(?:Verses?|Ver\.?) [\d, \-\u2013\u2014]+(?:and \d+)?[.,:]?\s*")
OUTLINE_LINE = 150


def clean_commentary(xml: str) -> str:
    """Return a chapter of the commentary without its outline and its 'Verses 1-3' labels.

    The outline stands between the chapter's title and the first label, or the first line that begins with a dash.
    Where a chapter has neither, its short lines are the outline.
    """
    lines = osis_lines(xml, title=lambda _: "@")
    starts = [i for i, line in enumerate(lines) if VERSES_LABEL.match(line) or line.startswith("--")]
    titles = [i for i, line in enumerate(lines) if line == "@"]
    body = starts[0] if starts else len(lines)
    head = [i for i in range(body) if len(lines[i]) >= OUTLINE_LINE and (not starts or not titles or i < titles[-1])]
    kept = [lines[i] for i in head] + lines[body:]
    return join_lines(re.sub(r"#\(([\d, -]+)\)", r"\1", VERSES_LABEL.sub("", line)).removeprefix("--") for line in kept)


SERMON_LABEL = re.compile(
    r"^(?:Verses?|Vers?\.?|Vs\.) ?\d[\d, \-\u2013\u2014&]*(?:and \d+)?[.,:;]?"
    r"(?: ?\([^)]{1,60}\))?[.,:;]?\s*(?:\u2014 ?)?"
)
SERMON_WORDS = re.compile(
    r"^(?:(?:(?:TITLE|SUBJECT|OCCASION|DIVISION|AUTHOR|OBJECT|ORDER|GENERAL|REMARK|ETC|AND|WHOLE PSALM)S?"
    r"[,. ]+)+|(?:Whole [Pp]salm|Title|Division)\. )(?:— ?)?(?=\S)"
)
SECTIONS = (
    (re.compile(r"EXPLANATORY NOTES"), "notes"),
    (re.compile(r"EXPOSITION|Psalm \d+ OVERVIEW|Psalms? \d+:\d+"), "exposition"),
    (re.compile(r"HINTS? (?:TO|FOR)|(?:OTHER )?WORKS? (?:UP)?ON|WORKS? WRITTEN"), ""),
)
PASSAGE_BYTES = 6000


def sermon_sections(xml: str) -> dict[str, list[tuple[bool, str]]]:
    """{'exposition': [(starts a verse, line)], 'notes': [...]} of one psalm; preachers' outlines and book lists go."""
    sections: dict[str, list[tuple[bool, str]]] = {"exposition": [], "notes": []}
    current = "exposition"
    for line in osis_lines(c1_as_cp437(xml), title=lambda text: text):
        found = [name for pattern, name in SECTIONS if pattern.match(line)]
        if found:
            current = found[0]
        elif current and not has_no_lowercase(line):
            label = SERMON_LABEL.match(line)
            sections[current].append((bool(label), _clean_sermon_line(line)))
    return sections


def _clean_sermon_line(line: str) -> str:
    """Return a line without its verse label, footnote marks and odd brackets."""
    line = SERMON_WORDS.sub("", SERMON_LABEL.sub("", line))
    line = re.sub(r"\{\d+\}|\*+|•|\|", "", line).replace("`", "'")
    line = re.sub(r"[\[{]([^\[\]{}]*)[\]}]", r"(\1)", line)
    return space_quotes(tidy(re.sub(r"[\[\]{}<>]", "", line)))


def passages(lines: list[tuple[bool, str]], size: int = PASSAGE_BYTES) -> list[str]:
    """Passages of at least `size` bytes that begin where a verse begins; a short rest joins the one before it."""
    found: list[list[str]] = [[]]
    for starts, line in lines:
        if starts and sum(len(x.encode()) for x in found[-1]) >= size:
            found.append([])
        found[-1].append(line)
    if len(found) > 1 and sum(len(x.encode()) for x in found[-1]) < size // 3:
        rest = found.pop()
        found[-1].extend(rest)
    return [text for text in map(join_lines, found) if text]
