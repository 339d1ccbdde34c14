"""The notebooks: committed without outputs, run from start to end, and show what they promise."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
SHOWS = {
    "01_microfaces": {
        "image/png": {"sheet", "clip", "field", "course", "magnify"},
        "text/html": {"generate", "scores"},
    },
    "02_training": {
        "image/png": {"patches", "curve", "confusion", "classify", "attention"},
        "text/html": {"scores"},
        "text/markdown": {"report"},
    },
    "03_sweep_review": {
        "image/png": {"figures", "differences"},
        "text/html": {"rows"},
        "text/markdown": {"table", "figures"},
    },
}
"""The cells of each notebook that show pictures, tables and Markdown."""
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def said(cell):
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Stand in for the repository's root: the notebooks share their clips there, as they do in a checkout."""
    (folder := tmp_path_factory.mktemp("root") / "notebooks").mkdir()
    return folder.parent


@pytest.fixture
def run(root, monkeypatch, tmp_path):
    """Run a notebook in a folder, for two epochs, with nothing kept in the home folder; a failing cell raises."""
    monkeypatch.delenv("GAMMER_SWEEP_STORAGE", raising=False)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))

    def execute(path, folder):
        notebook = nbformat.read(path, as_version=4)
        settings = next(cell for cell in notebook.cells if cell.id == "settings")
        settings.source = re.sub(r"(EPOCHS, SEEDS = .*?)\d+(, [(\[])", r"\g<1>2\2", settings.source)
        NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(folder)}}).execute()
        return notebook

    return execute


def test_there_are_notebooks():
    assert [path.stem for path in NOTEBOOKS] == list(SHOWS)


@every_notebook
def test_it_is_committed_without_outputs(path):
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec == {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert all(not cell.outputs and cell.execution_count is None for cell in code_cells(notebook))
    assert all(not cell.metadata for cell in notebook.cells)
    assert all(re.fullmatch(r"[a-z]+(-words)?", cell.id) for cell in notebook.cells)


@every_notebook
def test_it_says_that_the_faces_are_made_up(path):
    words = " ".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")
    assert "two public-domain portraits" in words


def check_01_microfaces(cells, root):
    assert len(list((root / "runs/notebooks/microfaces/truth").glob("sub*/*.npz"))) == 20


def check_02_training(cells, root):
    assert "EarlyStopping monitors `test_uf1`" in said(cells["refused"])
    (results,) = root.glob("runs/recognize/notebook/*/results.json")
    assert (results.parent / "checkpoints/last.ckpt").is_file()


def check_03_sweep_review(cells, root):
    assert said(cells["run"]).count("done, test_uf1") == 3
    assert (root / "runs/sweeps/notebook_alpha/table/index.html").is_file()
    assert "gammer recognize fit -c runs/notebooks/recognize_example.yaml" in said(cells["further"])


CHECKS = {
    "01_microfaces": check_01_microfaces,
    "02_training": check_02_training,
    "03_sweep_review": check_03_sweep_review,
}


@pytest.mark.slow
@every_notebook
def test_it_runs_and_shows_what_it_promises(path, root, run):
    before = path.read_bytes()
    notebook = run(path, root if path == NOTEBOOKS[0] else root / "notebooks")  # in either it writes below the root
    assert path.read_bytes() == before
    for kind, cells in SHOWS[path.stem].items():
        showing = {cell.id for cell in code_cells(notebook) if any(kind in out.get("data", {}) for out in cell.outputs)}
        assert cells <= showing, kind
    assert {entry.name for entry in root.iterdir()} == {"notebooks", "runs"}
    assert not list((root / "notebooks").iterdir())
    CHECKS[path.stem]({cell.id: cell for cell in code_cells(notebook)}, root)
