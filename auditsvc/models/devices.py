"""Device selection (CPU or one accelerator), and single-threaded execution for bit-reproducible results.

Floating-point sums depend on the number of threads, so what must be repeatable runs on one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from auditsvc.errors import InvalidInput, Unavailable

CPU = "cpu"


def device_named(name: str) -> str:
    """The device that ``name`` means: ``cpu``, ``cuda``, ``cuda:1``, or ``auto`` for an accelerator if there is one.

    On an accelerator products are taken in full float32: TF32 keeps ten bits, and answers would turn that nothing but
    rounding turned.

    Raises:
        InvalidInput: a device of another name.
        Unavailable: it is not on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else CPU
    if name == CPU:
        return CPU
    kind, _, number = name.partition(":")
    if kind != "cuda" or (number and not number.isdigit()):
        raise InvalidInput(f"no device {name!r}; there are cpu, cuda, cuda:NUMBER and auto")
    if not torch.cuda.is_available() or int(number or 0) >= torch.cuda.device_count():
        raise Unavailable(f"{name} is not on this machine: torch sees {torch.cuda.device_count()} accelerators")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return name


def device_words(name: str) -> str:
    """The device as evidence names it."""
    return CPU if name == CPU else f"{name} ({torch.cuda.get_device_name(name)})"


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch uses one thread, and as many as before afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
