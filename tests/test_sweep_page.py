"""The page of a sweep's table: it asks nothing of any server, escapes what users wrote, and sorts in a browser."""

import html
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from browser import browse
from made_runs import LABELS, RIGHT, WRONG, complete, sweep

from gammer_lightning.sweep.queue.study import Row
from gammer_lightning.sweep.table.table import write_table

EVIL = "<script>alert(1)</script> & \"quoted\" $x ${y} 'z'"


class Elements(HTMLParser):
    """Collects each element with its attributes, and the text of all."""

    def __init__(self, text):
        super().__init__()
        self.found, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture
def page(tmp_path):
    half = np.stack([LABELS, WRONG[0]])
    rows = [complete(tmp_path, "half", half), complete(tmp_path, "wrong", WRONG), complete(tmp_path, "right", RIGHT)]
    rows.append(Row(EVIL, {"model.layer": "<img src=x>"}, "failed", error="</td><b>bold</b>", attempts=2))
    write_table([(sweep(rows, study="<i>made"), rows)], tmp_path / "out")
    return tmp_path / "out/index.html"


def test_nothing_is_asked_of_any_server(page):
    text = page.read_text()
    elements = Elements(text)
    policy = next(meta["content"] for meta in elements.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'; img-src data:;")
    addresses = [a[key] for _, a in elements.found for key in ("src", "href", "action", "srcset") if key in a]
    assert len(addresses) == 3 and all(address.startswith("data:image/png;base64,") for address in addresses)
    assert not re.search(r"https?:|url\(|@import", text)
    assert {tag for tag, _ in elements.found}.isdisjoint({"link", "iframe", "base", "object", "form"})


def test_what_users_wrote_is_text(page):
    elements = Elements(page.read_text())
    assert len(elements.all("script")) == 1 and not elements.all("b") and not elements.all("i")
    for written in (EVIL, "</td><b>bold</b>", "<i>made", "'--model.layer=<img src=x>'"):
        assert written in elements.text
    assert all(image["alt"] for image in elements.all("img")) and len(elements.all("img")) == 3
    assert EVIL in [head.get("data-value") for head in elements.all("th")]


def test_each_row_has_its_command_and_folder(page):
    text = html.unescape(page.read_text())
    for name in ("half", "wrong", "right"):
        assert f"<dt>run</dt><dd>{page.parents[1] / name}</dd>" in text
    assert text.count("<code>gammer recognize fit -c ") == 4 and "failed, after 2 attempts" in text


def order(elements):
    return [head["data-value"] for head in elements.all("th") if head.get("scope") == "row"]


def sorted_by(elements):
    heads = [head["aria-sort"] for head in elements.all("th") if head.get("scope") == "col"]
    return {i: sort for i, sort in enumerate(heads) if sort != "none"}


def test_it_opens_in_planned_order(page, tmp_path):
    elements = Elements(browse(page, tmp_path))
    assert order(elements) == ["half", "wrong", "right", EVIL] and sorted_by(elements) == {}
    assert sum("hidden" in row for row in elements.all("tr")) == 4


@pytest.mark.parametrize(
    ("address", "names", "state"),
    [
        ("#sort=2", ["wrong", "half", "right", EVIL], {2: "ascending"}),
        ("#sort=-2", ["right", "half", "wrong", EVIL], {2: "descending"}),
        ("#sort=0", [EVIL, "half", "right", "wrong"], {0: "ascending"}),
        ("#sort=99", ["half", "wrong", "right", EVIL], {}),
    ],
)
def test_an_address_sorts(page, tmp_path, address, names, state):
    elements = Elements(browse(page, tmp_path, address=address))
    assert order(elements) == names and sorted_by(elements) == state


def test_clicks_sort_down_then_up_and_open_a_row(page, tmp_path):
    click = "document.querySelectorAll('thead button')[1].click();"
    assert order(Elements(browse(page, tmp_path, click)))[0] == "right"
    opened = Elements(browse(page, tmp_path, click * 2 + "document.querySelectorAll('.name')[2].click();"))
    assert order(opened) == ["wrong", "half", "right", EVIL] and sorted_by(opened) == {1: "ascending"}
    rows = [row for row in opened.all("tr") if row.get("class") == "more"]
    assert ["hidden" in row for row in rows] == [True, True, False, True]
    names = [button for button in opened.all("button") if button.get("class") == "name"]
    assert [name["aria-expanded"] for name in names] == ["false", "false", "true", "false"]


def test_copy_selects_the_command_and_says_so(page, tmp_path):
    script = "document.querySelector('.name').click(); document.querySelector('.copy').click();"
    copied = Elements(browse(page, tmp_path, script + "document.title = getSelection().toString();"))
    assert copied.text.lstrip().startswith("gammer recognize fit -c experiments/recognize_microfaces.yaml --name")
