"""The real servers that tests and the stack stand on."""

from collections.abc import Callable

import psycopg
from sage_local.seaweedfs import SeaweedFS


def test_each_database_is_its_own(make_database: Callable[[], str]) -> None:
    """Two databases see nothing of each other."""
    first, second = make_database(), make_database()
    with psycopg.connect(first) as connection:
        connection.execute("CREATE TABLE only_here (id int)")
    with psycopg.connect(second) as connection:
        assert connection.execute("SELECT to_regclass('only_here')").fetchone() == (None,)


async def test_buckets_take_objects(s3_server: SeaweedFS, make_bucket: Callable[[], str]) -> None:
    """What was put into a bucket can be read, and a range of it too."""
    bucket = make_bucket()
    client = s3_server.client()
    client.put_object(Bucket=bucket, Key="film", Body=b"0123456789")
    assert client.get_object(Bucket=bucket, Key="film", Range="bytes=2-4")["Body"].read() == b"234"
    client.close()
