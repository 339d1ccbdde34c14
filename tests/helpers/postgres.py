"""A PostgreSQL server of the tests' own, on loopback, for as long as a test module runs."""

import os
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psutil

PASSWORD = "open sesame/+@"
USER = "gammer"


def binaries():
    """Folder of initdb and pg_ctl, also where Debian keeps them; None where PostgreSQL is not installed."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in reversed(folders) if (folder / "initdb").exists()), None)


def run(*command):
    """Run a command as a user that PostgreSQL accepts, which root is not."""
    prefix = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    subprocess.run([*prefix, *map(str, command)], check=True, capture_output=True, cwd="/")


class Server:
    """A running server: its URL with the password of USER, and what restarts it."""

    def __init__(self, folder, port):
        self.port = port
        self.url = f"postgresql://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/postgres"
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        self._data = folder / "data"
        self._control = [binaries() / "pg_ctl", "-D", self._data, "-w"]
        self._start = ["-o", options, "-l", folder / "log", "start"]

    def start(self):
        run(*self._control, *self._start)

    def stop(self):
        run(*self._control, "-m", "immediate", "stop")

    def signal(self, number):
        """Send a signal to all processes of the server: stopped, it keeps its connections and answers nothing."""
        leader = psutil.Process(int((self._data / "postmaster.pid").read_text().split()[0]))
        for process in (leader, *leader.children()):
            process.send_signal(number)


@contextmanager
def server():
    """Yield a running `Server`."""
    folder = Path(tempfile.mkdtemp(prefix="gammer-pg-"))
    secret = folder / "secret"
    secret.write_text(PASSWORD)
    if os.getuid() == 0:
        for path in (folder, secret):
            shutil.chown(path, "postgres", "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    initdb = [binaries() / "initdb", "-D", folder / "data", "-U", USER, "--no-sync"]
    found = Server(folder, port)
    try:
        run(*initdb, "--pwfile", secret, "-A", "scram-sha-256")
        found.start()
        try:
            yield found
        finally:
            found.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
