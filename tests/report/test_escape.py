"""Names that users choose are text wherever they are shown: terminal, Markdown, LaTeX, CSV, JSON, SVG."""

import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.hostile import call
from support.tiny import tiny_config

from lab.errors import InputError, printable
from lab.metrics.columns import BY_NAME
from lab.report.figure import figure
from lab.report.render import formatted, latex, markdown, rich_table
from lab.report.tables import caption

EVIL = (
    "<script>alert(1)</script>",
    "[bold red]x[/]",
    "a|b",
    r"$\frac$ \input{x} %_&#{}~^",
    "`*x*` [y](z)",
    "_x",
    "\x1b[2J\u202e",
    "日本",
)


def rows(arm: str) -> list[dict[str, Any]]:
    """Two generations of two regimes in an arm with this name."""
    values = {name: 0.5 for name in BY_NAME}
    return [
        {"regime": regime, "arm": arm, "seed": 0, "generation": t, **values}
        for regime in ("human", "replace")
        for t in (0, 1)
    ]


@pytest.mark.parametrize("arm", EVIL, ids=ascii)
def test_a_terminal_shows_names_as_they_are(arm: str) -> None:
    said = io.StringIO()
    console = Console(file=said, width=200, force_terminal=True, markup=False, emoji=False, color_system=None)
    console.print(rich_table(rows(arm), ["nll"], 200))
    shown = said.getvalue()
    assert printable(arm) in shown and "\u202e" not in shown and "\x1b[2J" not in shown


@pytest.mark.parametrize("arm", EVIL, ids=ascii)
def test_markdown(arm: str) -> None:
    shown = formatted(rows(arm), ["nll"], "md")
    lines = [line for line in shown.splitlines() if line.startswith("| replace")]
    assert len(lines) == 1 and len(re.findall(r"(?<!\\)\|", lines[0])) == 7, "as many cells as the heading has"
    assert "<" not in shown and "](" not in shown and not re.search(r"(?<!\\)[`*](?!\*)x", shown)


@pytest.mark.parametrize("arm", EVIL, ids=ascii)
def test_latex(arm: str) -> None:
    """What is left after the escapes has no special character, and braces are in pairs."""
    shown = next(line for line in formatted(rows(arm), ["nll"], "latex").splitlines() if line.startswith("replace"))
    cell = shown.split(" & ")[0]
    rest = re.sub(r"\\text[a-z]+\{\}|\\[{}$%_&#]", "", cell)
    assert not set(rest) & set("\\{}$%_&#~^<>|"), cell


def test_escapes_by_hand() -> None:
    assert latex("50% of x_1 {a} $b") == r"50\% of x\_1 \{a\} \$b"
    assert latex("\\input{x}") == r"\textbackslash{}input\{x\}" and latex("1±2") == r"1$\pm$2"
    assert latex("[x] y") == "{[}x] y"
    assert markdown("a|b <i> [x](y) `c` [+1, +2] mix,human=0.5") == r"a\|b &lt;i> [x]\(y) \`c\` [+1, +2] mix,human=0.5"
    assert printable("a\x1b[2J\u202eb\ud800 é日") == "a\\x1b[2J\\u202eb\\ud800 é日"


@pytest.mark.parametrize("arm", EVIL, ids=ascii)
def test_csv_and_json_are_data_and_read_back(arm: str) -> None:
    table = list(csv.DictReader(io.StringIO(formatted(rows(arm), ["nll"], "csv"))))
    objects = json.loads(formatted(rows(arm), ["nll"], "json"))
    assert {row["arm"] for row in table} == {arm} == {row["arm"] for row in objects}


@pytest.mark.parametrize("name", ["=1+1", "+1", "-x", "@SUM(A1)", "a\nb", "a\x1bb", "x" * 200])
def test_names_that_a_spreadsheet_or_a_disk_would_mistake_are_refused(name: str) -> None:
    from lab.config.sweep import arms

    with pytest.raises(InputError, match="name"):
        arms(tiny_config("x.jsonl", sweep=[{"arm": name, "train.lr": 0.1}, {"arm": "b", "train.lr": 0.2}]))


@pytest.mark.parametrize("arm", EVIL, ids=ascii)
def test_a_figure_takes_names_as_text(arm: str, tmp_path: Path) -> None:
    """Well-formed, without a script; `$` begins no formula, `_` hides no line."""
    figure(rows(arm), f"study: {printable(arm)}", tmp_path / "a.svg")
    found = ET.parse(tmp_path / "a.svg")
    assert not [node for node in found.iter() if str(node.tag).endswith("script")]
    assert "<script" not in (tmp_path / "a.svg").read_text()


def test_paths_in_captions_and_domains_in_descriptions(tmp_path: Path) -> None:
    assert "\x1b" not in caption(tiny_config("a\x1b[2J\u202e.jsonl"), [{"regime": "human", "seed": 0}])
    domain = "<b>[bold]\x1b[2J"
    lines = (json.dumps({"text": f"Tale {n} of the sea.", "domain": (domain, "b")[n % 2]}) for n in range(60))
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    end = call("corpus", "a.jsonl", "--domain", "domain", cwd=tmp_path)
    assert not end.fault((0,)) and "<b>[bold]\\x1b[2J" in end.out and "\x1b" not in end.out, end
