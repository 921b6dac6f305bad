"""The errors that the comments of RPCs list, and the errors that code can raise, found without running it."""

import ast
import importlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from sage_runtime.errors import Reason

# `error_reason.proto`: any RPC can fail with these, and no comment lists them.
UNLISTED = frozenset({"FORBIDDEN", "INTERNAL", "UNAUTHENTICATED", "UNIMPLEMENTED"})
# The same: what else can be wrong with a store, for RPCs that list STORE_UNAVAILABLE.
_WITH_STORE = frozenset({"STORE_FULL", "STORE_FORBIDDEN", "STORE_MISCONFIGURED"})

_PROTOS = Path(__file__).parents[2] / "protos"
_RPC = re.compile(r"((?:^ *//[^\n]*\n)+) *rpc (\w+)\(", re.MULTILINE)
# Up to the end of the sentence, over several lines; examples in it are in parentheses.
_LIST = re.compile(r"\bErrors:(.*?)\.(?: |$)")
# Functions of `sage_runtime.errors` that make FIELD_INVALID.
_INVALID = frozenset({"check_all", "invalid", "invalid_field"})
# The parts of the chassis that raise errors for use cases.
_SHARED = ("sage_runtime.api", "sage_runtime.client", "sage_runtime.postgres")

_IMPLICIT = {"__aenter__", "__aexit__", "__aiter__", "__anext__", "__call__", "__enter__", "__exit__", "__init__"}


@cache
def listed() -> dict[str, frozenset[str]]:
    """Return the reasons that the comment of each RPC lists, by path such as `/package.Service/Method`."""
    found = {}
    for file in sorted(_PROTOS.rglob("*.proto")):
        text = file.read_text()
        package = re.search(r"^package ([\w.]+);", text, re.MULTILINE)
        for service in re.finditer(r"^service (\w+) \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL):
            for comment, rpc in _RPC.findall(service[2]):
                words = " ".join(line.strip().removeprefix("//").strip() for line in comment.splitlines())
                lists = _LIST.search(re.sub(r"\([^)]*\)", "", words))
                reasons = re.findall(r"[A-Z][A-Z0-9_]+", lists[1]) if lists else []
                found[f"/{package[1]}.{service[1]}/{rpc}"] = frozenset(reasons)
    return found


def is_unlisted(path: str, reason: str) -> bool:
    """Return whether an RPC of the contracts raised a reason that neither its comment nor the rules for all have."""
    if path not in listed():
        return False
    store = _WITH_STORE if "STORE_UNAVAILABLE" in listed()[path] else frozenset()
    return reason not in listed()[path] | UNLISTED | store


class Code:
    """The functions and classes of a service by name, with those that it shares with other services.

    A name stands for everything that has it, whichever class it is in: this finds more than can happen, never less.

    Args:
        package: The service's package, such as `sage_embed`.
    """

    def __init__(self, package: str) -> None:
        self._definitions: dict[str, list[ast.AST]] = defaultdict(list)
        self._servicers: dict[str, list[ast.AST]] = defaultdict(list)
        for file in (*_files(package), *(file for shared in _SHARED for file in _files(shared))):
            tree = ast.parse(file.read_text())
            for name, node in _definitions(tree):
                self._definitions[name].append(node)
                if file.name == "servicer.py":
                    self._servicers[name].append(node)

    def reasons_of(self, rpc: str) -> set[str]:
        """Return the reasons that may be raised from the servicer's method.

        A call of another service's RPC passes on what that lists.

        Raises:
            LookupError: No servicer has the method.
        """
        if rpc not in self._servicers:
            raise LookupError(f"no servicer.py has {rpc}")
        reasons: set[str] = set()
        seen: set[str] = set()
        rpc_names = {path.rpartition("/")[2] for path in listed()}
        nodes = list(self._servicers[rpc])
        while nodes:
            node = nodes.pop()
            reasons |= _raised(node)
            for name in _names(node):
                if name in seen:
                    continue
                seen.add(name)
                if name in _INVALID:
                    reasons.add(Reason.FIELD_INVALID)
                elif name in rpc_names and name != rpc:
                    reasons |= set().union(*(of for path, of in listed().items() if path.endswith(f"/{name}")))
                nodes += self._definitions.get(name, ())
        return reasons


def _files(module: str) -> Iterable[Path]:
    file = Path(str(importlib.import_module(module).__file__))
    return sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]


def _definitions(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            # Who names a class may create it. Its other methods are reached by their own names.
            for one in node.body:
                if not isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef)) or one.name in _IMPLICIT:
                    yield node.name, one
    for node in tree.body:
        for target in getattr(node, "targets", [getattr(node, "target", None)]):
            if isinstance(target, ast.Name):
                yield target.id, node


def _names(node: ast.AST) -> Iterator[str]:
    for one in ast.walk(node):
        if isinstance(one, ast.Name):
            yield one.id
        elif isinstance(one, ast.Attribute):
            yield one.attr


def _raised(node: ast.AST) -> set[str]:
    """Return the members of Reason that a piece of code mentions, except to compare with them."""
    compared = {id(inner) for one in ast.walk(node) if isinstance(one, ast.Compare) for inner in ast.walk(one)}
    return {
        one.attr
        for one in ast.walk(node)
        if isinstance(one, ast.Attribute)
        and isinstance(one.value, ast.Name)
        and one.value.id == "Reason"
        and id(one) not in compared
    }
