"""Run servers of the shop in examples/."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.conftest import ROOT

TIME_LIMIT = 60


@contextmanager
def served(
    command: Sequence[str], port: int, folder: Path, output: Path, **environment: str
) -> Iterator[str]:
    """Run a server for the block, with its output in a file; return its address."""
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "PYTHONUNBUFFERED": "1",
                # The server leaves its database here when it is terminated.
                "TMPDIR": str(output.parent),
                **environment,
            },
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for_port(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(TIME_LIMIT)


def watched(
    window: str, output: Path, **environment: str
) -> AbstractContextManager[str]:
    """Serve the shop as ``python examples/watch.py`` does."""
    port = free_port()
    command = ["examples/watch.py", window, "--port", str(port)]
    return served(command, port, ROOT, output, **environment)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for_port(port: int) -> None:
    """Wait until the server accepts connections."""
    end = time.monotonic() + TIME_LIMIT
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < end, "the server doesn't accept connections"
            time.sleep(0.1)
