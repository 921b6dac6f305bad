import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
_BINDING = re.compile(r'\b(get|put|post|delete): "([^"]+)"')
# Envoy serves the health of all services here; it is not in the contracts.
HEALTH = "GET /v1/health"


def test_the_first_column_has_every_url_that_the_gateway_serves() -> None:
    contracts = "".join(file.read_text() for file in (ROOT / "protos").rglob("*.proto"))
    served = {f"{method.upper()} {path}" for method, path in _BINDING.findall(contracts)} | {HEALTH}
    shown = re.findall(r"^\| `([A-Z]+ /[^`]+)` \|", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    # UploadVideo has two bindings, of which the table shows the one that `curl -T` uses.
    assert sorted(shown) == sorted(served - {"POST /v1/videos"})
