"""Run a Redis server for one companion."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from redis import ConnectionError, Redis


@contextmanager
def redis_server() -> Iterator[None]:
    """Run a server for the block, with its socket in the current folder."""
    command = ["redis-server", "--port", "0", "--unixsocket", "redis.sock"]
    server = subprocess.Popen([*command, "--save", ""], stdout=subprocess.DEVNULL)
    try:
        while not is_up():
            assert server.poll() is None, "redis-server has ended"
            time.sleep(0.01)
        yield
    finally:
        server.terminate()
        server.wait()


def is_up() -> bool:
    with Redis(unix_socket_path="redis.sock") as client:
        try:
            return client.ping()
        except ConnectionError:
            return False
