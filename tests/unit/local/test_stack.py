"""What keeps a whole stack from starting is named in one line."""

import errno
import os
from pathlib import Path

import pytest
from sage_local import stack
from sage_local.display import Display
from sage_local.errors import StackError
from sage_local.settings import StackSettings
from sage_local.stack import run_stack
from sage_local.supervision import StopRequest


async def test_an_error_of_the_disk_is_named_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "ports.json"

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(file))

    monkeypatch.setattr(stack, "choose_ports", fail)
    settings = StackSettings.on_free_ports(tmp_path / "state", workers=0)
    with pytest.raises(StackError, match=f"Read-only file system: {file}"):
        await run_stack(settings, display=Display(), stop=StopRequest(), on_ready=lambda _: None)
