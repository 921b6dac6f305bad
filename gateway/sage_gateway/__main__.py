"""`python -m sage_gateway`: prints Envoy's configuration, made from the environment; with a folder, writes it there."""

import shutil
import sys
from importlib import resources
from pathlib import Path

from sage_runtime.settings import load

from sage_gateway.config import GatewaySettings
from sage_gateway.render import DESCRIPTORS, render


def main() -> None:
    """Print `envoy.yaml`, or write it and the contracts that it refers to into the folder that is named."""
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
    config.unlink(missing_ok=True)  # one that others may read would stay so
    config.touch(mode=0o600)  # the gateway's token is in it
    config.write_text(text)


if __name__ == "__main__":
    main()
