"""One connection to PostgreSQL runs statements and hears notifications in between."""

import asyncio

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from lemon_async._http.shared_limit.postgres_connection import PostgresConnection
from limit_cases import until


@pytest.fixture
async def connect(postgres):
    opened = []

    async def connect(on_notify=print, on_close=list):
        parameters = conninfo_to_dict(postgres.url("postgres"))
        opened.append(await PostgresConnection.connect(on_notify, on_close, **parameters))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


async def test_statements_return_their_last_row(connect):
    """Values are text; NULL is None, and a statement without rows returns an empty one."""
    connection = await connect()
    assert await connection.execute("SELECT $1::int + 1, $2::text, 'x'", (41, None)) == ["42", None, "x"]
    assert await connection.execute("SET statement_timeout = 0; SELECT 1; SELECT 2") == ["2"]
    assert await connection.execute("SET statement_timeout = 0") == ()


async def test_errors_leave_it_usable(connect):
    connection = await connect()
    with pytest.raises(psycopg.errors.DivisionByZero):
        await connection.execute("SELECT 1 / 0")
    assert await connection.execute("SELECT 1") == ["1"]


async def test_long_statements_are_sent_as_the_socket_takes_them(connect):
    """Eight megabytes do not fit into the buffers between client and server."""
    connection = await connect()
    assert await connection.execute("SELECT length($1)", ("x" * 8_000_000,)) == ["8000000"]


async def test_notifications_arrive_while_nothing_is_asked(connect):
    """And while a statement runs."""
    heard = []
    listener, sender = await connect(heard.append), await connect()
    await listener.execute("LISTEN news")
    await sender.execute("NOTIFY news, 'one'")
    await until(lambda: heard == ["one"])
    await asyncio.gather(listener.execute("SELECT pg_sleep(0.02)"), sender.execute("NOTIFY news, 'two'"))
    await until(lambda: heard == ["one", "two"])


async def test_lost_connection_closes_it(connect):
    """Both while nothing is asked, and with an error for the statement that runs."""
    closed, one, other = [], *(await asyncio.gather(connect(), connect()))
    idle = await connect(on_close=lambda: closed.append(True))
    pid = (await idle.execute("SELECT pg_backend_pid()"))[0]
    await one.execute("SELECT pg_terminate_backend($1::int)", (pid,))
    await until(lambda: closed)
    assert idle.is_closed
    pid = (await one.execute("SELECT pg_backend_pid()"))[0]
    running = asyncio.ensure_future(one.execute("SELECT pg_sleep(600)"))
    await asyncio.sleep(0)
    await other.execute("SELECT pg_terminate_backend($1::int)", (pid,))
    with pytest.raises(psycopg.OperationalError):
        await running
    assert one.is_closed


async def test_cancelling_a_statement_closes_it_without_waiting(connect):
    connection = await connect()
    async with asyncio.timeout(60):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection.execute("SELECT pg_sleep(600)"), 0.01)
    assert connection.is_closed
