"""Measure the model of this kit on this device: ``python run.py --key device.pem``.

Needs Python 3.9, numpy, cryptography, and onnxruntime or ai-edge-litert.  It runs every image alone on one thread, and
writes answers.npy, measurement.json and measurement.sig, which go back to ``auditsvc admit-measurement``.

The key is an Ed25519 key made on the device, whose public part was registered:
    openssl genpkey -algorithm ed25519 -out device.pem && openssl pkey -in device.pem -pubout -out device.pub

Without Python (C++, Android): run the images of images.npy, float32 in the order of the model's input, through the
model; write the outputs as a float32 array answers.npy of one row for each image and the fields that this file writes
to measurement.json; sign its bytes with ``openssl pkeyutl -sign -rawin -inkey device.pem``.  The latencies are those of
single images on the accelerator that will run them, warm; for Android ``benchmark_model --graph=model.tflite
--num_threads=1 --warmup_runs=5`` gives them.
"""

import argparse
import base64
import hashlib
import json
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent


def digest(data: bytes) -> str:
    """The SHA-256, as auditsvc writes it."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def memory() -> int:
    """The largest resident size so far, in bytes; 0 where Linux does not say it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def opened(name: str, path: Path) -> "tuple[Callable[[Any], Any], str]":
    """A function from one batch to the outputs, and the version of the runtime."""
    if name == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        (given,) = session.get_inputs()
        return lambda images: session.run(None, {given.name: images})[0], "onnxruntime " + onnxruntime.__version__
    import ai_edge_litert.interpreter as litert

    inner = litert.Interpreter(model_path=str(path), num_threads=1)
    inner.allocate_tensors()
    (given,), made = inner.get_input_details(), inner.get_output_details()[0]

    def run(images: Any) -> Any:
        scale, zero = given["quantization"]
        if scale:
            kind = np.iinfo(given["dtype"])
            images = np.clip(np.rint(images / scale) + zero, kind.min, kind.max).astype(given["dtype"])
        inner.set_tensor(given["index"], images)
        inner.invoke()
        scale, zero = made["quantization"]
        found = inner.get_tensor(made["index"])
        return (found.astype(np.float32) - zero) * scale if scale else found

    return run, "ai-edge-litert " + version("ai-edge-litert")


def main() -> None:
    """Run every image, write and sign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=0, help="Then run on for a power meter: at least 60.")
    options = parser.parse_args()
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key: Any = load_pem_private_key(options.key.read_bytes(), None)
    described = (HERE / "kit.json").read_bytes()
    kit, images = json.loads(described), np.load(HERE / "images.npy")
    model = (HERE / kit["model"]).read_bytes()
    if digest(model) != kit["model_digest"] or digest(images.tobytes()) != kit["images_digest"]:
        raise SystemExit("the model or the images are not those of kit.json")
    start, before = time.perf_counter(), memory()
    run, library = opened(kit["run"].split("/")[0], HERE / kit["model"])
    run(images[:1])
    cold = 1e3 * (time.perf_counter() - start)
    answers, times = [], []
    for number in range(len(images)):
        start = time.perf_counter()
        answers.append(np.asarray(run(images[number : number + 1]), np.float32))
        times.append(1e3 * (time.perf_counter() - start))
    found = np.ascontiguousarray(np.concatenate(answers))
    np.save(HERE / "answers.npy", found)
    grown = memory() - before
    load, start = 0, time.time()
    while time.time() - start < options.seconds:
        run(images[load % len(images) :][:1])
        load += 1
    said = {"machine": platform.machine(), "system": platform.platform(), "runtime": library}
    signed = json.dumps({
        "challenge": digest(described), "answers_digest": digest(found.tobytes()), "latency_ms": times,
        "cold_ms": cold, "memory_bytes": grown if grown > 0 else None, "described": said,
        "load_start": start, "load_end": time.time(), "load_images": load,
    }).encode()  # fmt: skip
    (HERE / "measurement.json").write_bytes(signed)
    (HERE / "measurement.sig").write_text(base64.b64encode(key.sign(signed)).decode())


if __name__ == "__main__":
    main()
