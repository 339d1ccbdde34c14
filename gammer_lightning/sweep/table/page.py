"""The page of a sweep's table: one HTML file that asks nothing of any server."""

import base64
import itertools
from collections.abc import Sequence
from html import escape
from string import Template

from gammer_lightning.reports.page import PAGE_HEAD
from gammer_lightning.sweep.table.entries import Entry
from gammer_lightning.sweep.table.figures import DPI, Picture
from gammer_lightning.sweep.table.layout import NEGATIVE, Cell, Line, Table

PAGE = Template(
    PAGE_HEAD
    + """body { max-width: 84rem; }
h1 { margin-bottom: 1rem; }
h2 { font-size: 1.1rem; margin: 2.5rem 0 1rem; }
.scroll { overflow-x: auto; background: var(--sheet); border: 1px solid var(--rule); border-radius: .6rem; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td {
  padding: .5rem .65rem; text-align: right; vertical-align: baseline; white-space: nowrap;
  border-bottom: 1px solid var(--rule);
}
tbody:last-child tr:last-child > *, tbody:last-child tr:has(+ [hidden]) > * { border-bottom: 0; }
th { font-weight: 600; }
thead th { padding: .2rem .3rem; color: var(--soft); vertical-align: bottom; white-space: normal; }
thead .group { color: var(--ink); text-align: left; padding: .6rem; border-left: 1px solid var(--rule); }
.first { border-left: 1px solid var(--rule); }
tr > :first-child {
  position: sticky; left: 0; z-index: 1; min-width: 10rem; background: var(--sheet); text-align: left;
  white-space: normal;
}
tbody tr:hover > * { background: var(--tint); }
button { font: inherit; color: inherit; background: none; border: 0; border-radius: .35rem; cursor: pointer; }
button:focus-visible { outline: 2px solid var(--link); outline-offset: -1px; }
thead button { padding: .35rem; font-weight: 600; line-height: 1.3; text-align: inherit; }
thead button:hover, [aria-sort$$=cending] button { color: var(--link); }
thead button::before { content: "↕"; opacity: .35; margin-right: .3em; }
[aria-sort=ascending] button::before { content: "↑"; opacity: 1; }
[aria-sort=descending] button::before { content: "↓"; opacity: 1; }
.name { display: flex; padding: .1rem 0; text-align: left; }
.name::before { content: "▸"; color: var(--soft); flex: none; width: 1.1em; }
.name[aria-expanded=true]::before { content: "▾"; }
.state { color: var(--busy); } .failed { color: var(--bad); }
tr.more > td, tr.more:hover > td { background: var(--tint); white-space: normal; }
tr.more > td > div { position: sticky; left: .65rem; width: min(68rem, calc(100vw - 5rem)); }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .3rem 1rem; margin: .3rem 0 .8rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; white-space: pre-wrap; }
code { font: .88em/1.5 ui-monospace, monospace; }
.copy { color: var(--link); border: 1px solid var(--rule); padding: 0 .5rem; margin-left: .6rem; font-size: .85em; }
.notes { color: var(--soft); font-size: .88rem; padding-left: 1.1rem; max-width: 65rem; overflow-wrap: anywhere; }
figure { margin: 0 0 2rem; }
img {
  display: block; max-width: 100%; height: auto; background: #fff; border: 1px solid var(--rule); border-radius: .6rem;
}
figcaption { color: var(--soft); font-size: .88rem; margin-top: .4rem; }
@media (max-width: 40rem) {
  body { padding-top: 1rem; } th, td { padding: .4rem .55rem; } dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .5rem; } tr > :first-child { min-width: 7rem; max-width: 9rem; }
  tr.more > td { max-width: none; }
}
@media print { thead button::before, .name::before, .copy { display: none; } }
</style>
<noscript><style>tr.more[hidden] { display: table-row; } .copy { display: none; }</style></noscript>
</head>
<body>
<main>
<h1>$title</h1>
<div class="scroll" tabindex="0" role="region" aria-label="Table">
<table>
<thead>
$head
</thead>
$rows
</table>
</div>
<ul class="notes">
$notes
</ul>
$figures
</main>
<script>
const table = document.querySelector("table");
const heads = [...table.querySelectorAll("th[data-column]")];
// empty cells come last both ways; rows that tie keep their order
function sort(column, down) {
  const value = body => body.rows[0].cells[column].dataset.value;
  const numeric = heads[column].dataset.column === "number";
  const compare = (a, b) => numeric ? a - b : a.localeCompare(b, "en", {numeric: true});
  const bodies = [...table.tBodies].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
    return down ? compare(y, x) : compare(x, y);
  });
  table.append(...bodies);
  heads.forEach((head, i) => head.setAttribute("aria-sort", i !== column ? "none" : down ? "descending" : "ascending"));
}
heads.forEach((head, i) => head.firstElementChild.onclick = () => {
  const now = head.getAttribute("aria-sort");
  sort(i, now === "none" ? head.dataset.column === "number" : now === "ascending");
});
// #sort=2 sorts by the second column after the name, #sort=-2 the other way round, so that a link can
function sortByHash() {
  const [, sign, column] = location.hash.match(/^#sort=(-?)(\\d+)$$/) ?? [];
  if (heads[column]) sort(+column, Boolean(sign));
}
onhashchange = sortByHash;
sortByHash();
table.onclick = async event => {
  const button = event.target.closest("button");
  if (button?.className === "name") {
    const more = button.closest("tr").nextElementSibling;
    more.hidden = !more.hidden;
    button.ariaExpanded = !more.hidden;
  }
  if (button?.className === "copy") {
    const code = button.previousElementSibling;
    getSelection().selectAllChildren(code);
    try { await navigator.clipboard.writeText(code.textContent); } catch { document.execCommand("copy"); }
    button.textContent = "copied";
  }
};
</script>
</body>
</html>
"""
)
STATES = ("waiting", "running", "failed", "pruned")


def page(table: Table, pictures: Sequence[Picture]) -> str:
    """Return the page: the table, sortable by every column, its notes, and the figures inside the file.

    Args:
        table: The table.
        pictures: The figures.
    """
    rows = "\n".join(_row(line, table) for line in table.lines)
    notes = "\n".join(f"<li>{escape(note)}</li>" for note in table.notes)
    figures = "\n".join(map(_figure, pictures))
    if pictures:
        figures = f"<h2>Figures</h2>\n{figures}"
    return PAGE.substitute(title=escape(table.title), head=_head(table), rows=rows, notes=notes, figures=figures)


def _figure(picture: Picture) -> str:
    source = f"data:image/png;base64,{base64.b64encode(picture.png).decode()}"
    alt = escape(picture.alt)
    pixels = int.from_bytes(picture.png[16:20])  # the width in the PNG's header
    width = round(pixels * 96 / DPI)
    return f'<figure><img src="{source}" alt="{alt}" width="{width}"><figcaption>{alt}</figcaption></figure>'


def _head(table: Table) -> str:
    groups = "".join(f'<th class="group" colspan="{width}">{escape(name)}</th>' for name, width in table.groups)
    headings = ["row", *table.headings]
    rows = [[line.name, *(cell.value for cell in line.cells)] for line in table.lines]
    columns = zip(*rows, strict=True)
    cells = "".join(map(_heading, headings, columns))
    return f"<tr><td></td>{groups}</tr>\n<tr>{cells}</tr>"


def _heading(text: str, values: Sequence[float | str | None]) -> str:
    kind = "text" if any(isinstance(value, str) for value in values) else "number"
    return f'<th scope="col" data-column="{kind}" aria-sort="none"><button>{escape(text)}</button></th>'


def _row(line: Line, table: Table) -> str:
    """Return a row and, hidden below it, what reproduces it; one tbody, so that both move together."""
    widths = [width for _, width in table.groups]
    starts = set(itertools.accumulate(widths, initial=0))  # the first column of each group
    cells = "".join(_cell(cell, index in starts) for index, cell in enumerate(line.cells))
    name = escape(line.name)
    button = f'<button class="name" aria-expanded="false" title="command and run folder">{name}</button>'
    details = "\n".join(map(_details, line.entries))
    return (
        f'<tbody>\n<tr><th scope="row" data-value="{name}">{button}</th>{cells}</tr>\n'
        f'<tr class="more" hidden><td colspan="{len(line.cells) + 1}"><div>{details}</div></td></tr>\n</tbody>'
    )


def _cell(cell: Cell, is_first: bool) -> str:
    names = ["first"] if is_first else []
    state, _, _ = cell.text.partition(" ")
    if state in STATES:
        names += ["state", state]
    value = "" if cell.value is None else f' data-value="{escape(str(cell.value))}"'
    text = NEGATIVE.sub("−", escape(cell.text))
    return f'<td class="{" ".join(names)}"{value}>{text}</td>'


def _details(entry: Entry) -> str:
    row = entry.row
    state = f"{row.state}, after {row.attempts} attempts" if row.attempts > 1 else row.state
    details = {
        "study": entry.sweep.study,
        "state": state,
        "run": entry.run or "-",
        "host": row.host,
        "error": row.error,
    }
    terms = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in details.items() if text)
    command = f'<code>{escape(entry.command)}</code><button class="copy">copy</button>'
    return f"<dl>{terms}<dt>command</dt><dd>{command}</dd></dl>"
