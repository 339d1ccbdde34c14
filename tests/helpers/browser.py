"""A page as headless Chromium has it after its scripts ran."""

import shutil
import subprocess

import pytest

FLAGS = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-background-networking --no-first-run"


def browse(page, tmp_path, script="", address=""):
    """Return the document after the page's own scripts, and ``script``, ran; ``address`` follows the file's."""
    if not shutil.which("chromium"):
        pytest.skip("needs a browser: chromium is not on the PATH")
    copy = tmp_path / "copy.html"
    copy.write_text(page.read_text().replace("</body>", f"<script>{script}</script></body>"))
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = ["chromium", *FLAGS.split(), profile, "--virtual-time-budget=3000", "--dump-dom", copy.as_uri() + address]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "</html>" in shown.stdout, shown.stderr
    return shown.stdout
