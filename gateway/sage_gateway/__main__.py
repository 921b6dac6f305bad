"""`python -m sage_gateway` prints Envoy's configuration for the environment; with a folder, it writes it there."""

import shutil
import sys
from importlib import resources
from pathlib import Path

from sage_runtime.process.settings import load

from sage_gateway.config import GatewaySettings
from sage_gateway.render import DESCRIPTORS, render


def main() -> None:
    """Print `envoy.yaml`, or write it and the descriptor set that it refers to into the given folder."""
    settings = load(GatewaySettings)
    if len(sys.argv) == 1:
        sys.stdout.write(render(settings))
        return
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with resources.as_file(resources.files("sage_gateway").joinpath(DESCRIPTORS)) as descriptors:
        shutil.copy(descriptors, folder / DESCRIPTORS)
    config = folder / "envoy.yaml"
    text = render(settings, descriptors=folder / DESCRIPTORS)
    config.unlink(missing_ok=True)  # an existing file could keep wider permissions
    config.touch(mode=0o600)  # it contains the gateway's token
    config.write_text(text)


if __name__ == "__main__":
    main()
