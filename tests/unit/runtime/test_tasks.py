"""Task groups whose errors can be caught by type."""

import asyncio

import pytest
from sage_runtime.errors import first_error, task_group


async def _fail(error: Exception) -> None:
    raise error


async def test_first_error_is_raised_itself():
    with pytest.raises(LookupError) as error:
        async with task_group() as tasks:
            tasks.create_task(_fail(LookupError("gone")))
    assert isinstance(error.value.__cause__, ExceptionGroup)


async def test_error_of_the_block_is_raised_itself():
    async def fail_in_the_block() -> None:
        async with task_group() as tasks:
            tasks.create_task(asyncio.sleep(60))
            raise LookupError("gone")

    with pytest.raises(LookupError):
        await fail_in_the_block()


def test_first_error_is_found_at_any_depth():
    inner = KeyError("inner")
    assert first_error(ExceptionGroup("a", [ExceptionGroup("b", [inner]), OSError()])) is inner
    assert first_error(inner) is inner
