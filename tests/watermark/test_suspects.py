import pickle

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

from auditsvc.errors import InvalidInput
from auditsvc.watermark import detect, read_suspect
from auditsvc.watermark.detector import arrays
from auditsvc.watermark.suspect_loader import renamed
from tests.bench.watermark.attacks import disguised, quantised
from tests.bench.watermark.digits import Net
from tests.watermark.conftest import PAYLOAD, Marked


def found(marked: Marked, path):
    return detect(
        read_suspect(path),
        marked.original,
        seed=marked.seed,
        unmarked=marked.unmarked,
        payload=PAYLOAD,
        wiring=marked.wiring,
    )


def written(path, nodes, tensors, inputs=("x",), outputs=("y",)):
    kept = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names] for names in (inputs, outputs)
    ]
    path.write_bytes(helper.make_model(helper.make_graph(nodes, "g", *ends, kept)).SerializeToString())
    return path


def test_safetensors_of_any_precision_are_read_as_floats(tmp_path):
    save_file(
        {"a": torch.ones(2, dtype=torch.bfloat16), "b": torch.tensor([-3], dtype=torch.int8)},
        tmp_path / "m.safetensors",
    )
    weights = read_suspect(tmp_path / "m.safetensors")
    assert {name: (tensor.dtype, tensor.tolist()) for name, tensor in weights.items()} == {
        "a": (torch.float32, [1.0, 1.0]),
        "b": (torch.float32, [-3.0]),
    }


def test_files_that_can_run_code_or_are_damaged_are_refused(tmp_path):
    for name, data in (
        ("m.pt", pickle.dumps({})),
        ("m.pkl", b""),
        ("m.safetensors", b"\x80\x04pickle"),
        ("m.onnx", b"\xff\xff\xff not a model"),
        ("empty.onnx", b""),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InvalidInput):
            read_suspect(tmp_path / name)
    with pytest.raises(InvalidInput, match="no file"):
        read_suspect(tmp_path / "absent.onnx")


def test_onnx_that_points_to_another_file_is_refused(tmp_path):
    tensor = numpy_helper.from_array(np.ones((2, 3), np.float32), "w")
    onnx.external_data_helper.set_external_data(tensor, "../secret.bin")
    tensor.ClearField("raw_data")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [], [], [tensor])
    (tmp_path / "m.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(InvalidInput, match="another file"):
        read_suspect(tmp_path / "m.onnx")


def test_onnx_matrices_are_turned_the_way_torch_keeps_them(tmp_path):
    draw = np.random.default_rng(0)
    plain, gemm = draw.normal(size=(3, 5)).astype(np.float32), draw.normal(size=(4, 5)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "one"], ["h"]), helper.make_node("Gemm", ["h", "two"], ["y"], transB=1)]
    weights = read_suspect(written(tmp_path / "m.onnx", nodes, {"one": plain, "two": gemm}))
    np.testing.assert_array_equal(weights["one"], plain.T)
    np.testing.assert_array_equal(weights["two"], gemm)


@pytest.mark.parametrize("form", ["dequantised", "operator"])
def test_onnx_of_8_bit_integers_is_brought_back_to_floats(tmp_path, form):
    draw = np.random.default_rng(1)
    integers = draw.integers(-120, 120, (4, 3, 3, 3)).astype(np.int8)
    scale, zero = np.array([0.1, 0.2, 0.3, 0.4], np.float32), np.array([0, 1, -1, 5], np.int8)
    tensors = {"w_quantized": integers, "w_scale": scale, "w_zero": zero}
    if form == "dequantised":
        nodes = [
            helper.make_node("DequantizeLinear", ["w_quantized", "w_scale", "w_zero"], ["w_dq"], axis=0),
            helper.make_node("Conv", ["x", "w_dq"], ["y"]),
        ]
    else:
        names = ["x", "s", "z", "w_quantized", "w_scale", "w_zero", "s", "z"]
        tensors |= {"s": np.array(0.5, np.float32), "z": np.array(0, np.uint8)}
        nodes = [helper.make_node("QLinearConv", names, ["y"])]
    weights = read_suspect(written(tmp_path / "m.onnx", nodes, tensors))
    expected = (integers - zero[:, None, None, None].astype(np.float32)) * scale[:, None, None, None]
    np.testing.assert_allclose(weights["w"], expected, rtol=1e-6)


def test_layers_under_other_names_and_in_another_order_are_paired(marked):
    hidden = arrays(quantised(disguised(marked.weights, marked.wiring), 8))
    names = [name for name, array in hidden.items() if array.ndim > 1]
    shuffled = {f"onnx::Conv_{i}": hidden[name] for i, name in enumerate(sorted(names, reverse=True))}
    paired = renamed(shuffled, arrays(marked.original), names)
    assert all(np.array_equal(paired[name], hidden[name]) for name in names)


@pytest.mark.slow
def test_a_mark_is_found_in_what_the_exporter_and_the_quantiser_write(marked, tmp_path):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Some(CalibrationDataReader):
        def __init__(self):
            self.left = [{"images": marked.images[i : i + 8].numpy()} for i in range(0, 64, 8)]

        def get_next(self):
            return self.left.pop() if self.left else None

    plain = tmp_path / "plain.onnx"
    net = Net.holding(marked.weights)
    torch.onnx.export(net, (marked.images[:1],), plain, dynamo=False, input_names=["images"],
                      dynamic_axes={"images": {0: "n"}})  # fmt: skip
    whole = found(marked, plain)
    assert whole.z > 0.95 * marked.mark.fidelity["z unchanged"]  # normalisation is folded into the weights here
    for form in (QuantFormat.QDQ, QuantFormat.QOperator):
        small = tmp_path / f"{form}.onnx"
        quantize_static(plain, small, Some(), quant_format=form, per_channel=True, weight_type=QuantType.QInt8)
        seen = found(marked, small)
        assert (seen.bits_matched, seen.z > 0.85 * whole.z) == (64, True)
