"""Servers that hold shared rate limits, with what tests of `limit_cases.py` do to them."""

import os
import signal
from contextlib import suppress

import psutil
import redis

__all__ = ["PostgresLimits", "RedisLimits"]


class RedisLimits:
    """A Redis server; other keys than limits are lost, too.

    Attributes:
        url: Its address.
        notices_loss: Whether it knows by itself that a state is lost.
    """

    notices_loss = False

    def __init__(self, server, *, is_empty=False):
        self.url, self.start, self.kill, self.hang, self.resume = (
            server.url, server.start, server.kill, server.pause, server.resume,
        )  # fmt: skip
        self._port = server.port
        if not is_empty:
            self.lose()

    def guarded_url(self, password):
        """Return the address with a wrong password."""
        self.execute("ACL", "SETUSER", "guarded", "on", ">right", "~*", "&*", "+@all")
        return f"redis://guarded:{password}@127.0.0.1:{self._port}"

    def lose(self):
        """Lose all states."""
        self.execute("FLUSHALL")

    def age(self):
        """Let two minutes pass after the last slot: the keys expire."""
        for key in self.execute("KEYS", "lemon-async:*"):
            assert 100_000 < self.execute("PTTL", key) <= 171_000
            self.execute("PEXPIRE", key, 0)

    def set_back(self):
        """Set the clock back by an hour."""
        for key in self.execute("KEYS", "lemon-async:*limit"):
            for name in ("due", "clear_until"):
                self.execute("HINCRBY", key, name, 3_600_000_000)

    def listeners(self):
        """Return how many stores hear pauses."""
        channels = self.execute("PUBSUB", "CHANNELS", "lemon-async:*")
        return sum(self.execute("PUBSUB", "NUMSUB", *channels)[1::2])

    def execute(self, *command, fails=False):
        """Return the reply to a command, or the message of the error."""
        connection = redis.Connection(port=self._port, protocol=2, decode_responses=True)
        try:
            connection.send_command(*command)
            return connection.read_response()
        except redis.ResponseError as error:
            if not fails:
                raise
            return f"{type(error).__name__} {error}"
        finally:
            connection.disconnect()


class PostgresLimits:
    """A database of its own on a PostgreSQL server; attributes as those of `RedisLimits`."""

    notices_loss = True

    def __init__(self, server):
        self.url = server.new_database()
        self.start, self.kill = server.start, server.stop
        self._server = server

    def guarded_url(self, password):
        """Return the address with a wrong password."""
        return self.url.replace("//lemon@", f"//guarded:{password}@")

    def lose(self):
        """Lose all states, as in a crash."""
        self._server.execute("TRUNCATE lemon_async_limit.accounts, lemon_async_limit.workers", self.url)

    def age(self):
        """Let two minutes pass after the last slot."""
        self._move(-171)

    def set_back(self):
        """Set the clock back by an hour."""
        self._move(3600)

    def _move(self, seconds):
        times = ", ".join(f"{name} = {name} + {seconds}" for name in ("due", "clear_until", "used_at"))
        self._server.execute(f"UPDATE lemon_async_limit.accounts SET {times}", self.url)

    def listeners(self):
        """Return how many stores hear pauses."""
        idle = "application_name = 'lemon_async' AND state = 'idle' AND query <> ''"
        count = f"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND {idle}"
        return self._server.execute(count, self.url)[0][0]

    def hang(self):
        """Stop all its processes, so that it accepts connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self):
        """Let them run again."""
        self._signal(signal.SIGCONT)

    def _signal(self, number):
        server = psutil.Process(self._server.process.pid)
        for process in (server, *server.children()):
            with suppress(ProcessLookupError):  # that of a closed connection has just ended
                os.kill(process.pid, number)
