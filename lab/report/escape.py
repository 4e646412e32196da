"""Names that users choose, as text in other languages: Markdown and LaTeX.  lab.errors.printable makes them harmless
to a terminal; CSV is data and stays as it is (lab/config/sweep.py refuses names that a spreadsheet would take for
formulas).
"""

from __future__ import annotations

import re

MARKDOWN = {"\\": "\\\\", "|": "\\|", "<": "&lt;", "&": "&amp;", "`": "\\`", "*": "\\*", "](": "]\\(", "~~": "\\~\\~"}
"""Cells of tables and links; an underscore inside of a word is plain in every dialect that has tables."""
LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "%": r"\%",
    "_": r"\_",
    "&": r"\&",
    "#": r"\#",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
}


def _escaper(table: dict[str, str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, table)))


_MARKDOWN, _LATEX = _escaper(MARKDOWN), _escaper(LATEX)


def markdown(text: str) -> str:
    """markdown("a|<b>") == "a\\\\|&lt;b>" """
    return _MARKDOWN.sub(lambda found: MARKDOWN[found[0]], text)


def latex(text: str) -> str:
    """latex("x_1") == "x\\\\_1".  A first [ is held: it could be an option of the line before."""
    plain = _LATEX.sub(lambda found: LATEX[found[0]], text)
    return "{[}" + plain[1:] if plain.startswith("[") else plain
