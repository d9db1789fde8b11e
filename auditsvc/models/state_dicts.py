"""State dicts as people save them, made to fit an architecture; what was changed is said.

Training code wraps a state dict in a checkpoint, prefixes its names (``DataParallel``, ``torch.compile``, Lightning),
keeps averaged weights next to the plain ones, and leaves pruning masks in it.  Everything here is bookkeeping on names
and tensors; nothing is guessed by shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from auditsvc.errors import Refused

_AVERAGED = ("state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "params_ema", "ema")
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "params", "weights")
_COUNTERS = ("n_averaged", "total_ops", "total_params")
"""Numbers that averaging and profilers store next to the weights."""


def unwrapped(loaded: Any) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors of a checkpoint, averaged ones (EMA) before plain ones, and what was done.

    Raises:
        Refused: there is no dictionary of tensors in it.
    """
    notes: list[str] = []
    while isinstance(loaded, Mapping):
        found = [key for key in (*_AVERAGED, *_WRAPPERS) if isinstance(loaded.get(key), Mapping) and loaded[key]]
        if not found and not any(isinstance(value, Tensor) for value in loaded.values()):
            found = [str(key) for key, value in loaded.items() if isinstance(value, Mapping) and _holds_tensors(value)]
            if len(found) > 1:
                raise Refused(f"it holds several state_dicts: {', '.join(found)}; save one of them")
        if not found:
            break
        notes.append(
            f"took the weights from {found[0]!r}" + (f", not from {', '.join(found[1:])}" if found[1:] else "")
        )
        loaded = loaded[found[0]]
    tensors = {str(key): value for key, value in loaded.items() if isinstance(value, Tensor)} if isinstance(
        loaded, Mapping
    ) else {}  # fmt: skip
    if not tensors:
        raise Refused(
            f"it holds a {type(loaded).__name__} and no state_dict; save the weights alone: "
            "torch.save(model.state_dict(), 'model.pt')"
        )
    return tensors, tuple(notes)


def _holds_tensors(value: Mapping[Any, Any]) -> bool:
    return bool(value) and all(isinstance(key, str) and isinstance(one, Tensor) for key, one in value.items())


def fitted_to(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The weights under the names that the architecture has, and what was done to get there.

    Names that still do not fit are left for ``assemble``, which lists them.

    Raises:
        Refused: several prefixes fit equally well.
    """
    notes: list[str] = []
    tensors = _permanent({name: tensor for name, tensor in weights.items() if name not in _COUNTERS}, wanted, notes)
    tensors = _without_wrappers(tensors, wanted, notes)
    needed = [name for name in wanted if not name.endswith("num_batches_tracked")]
    if not all(name in tensors for name in needed):
        tensors = _without_prefix(tensors, needed, notes)
    counters = {name: wanted[name].clone() for name in wanted if name not in tensors and name not in needed}
    return tensors | counters, tuple(notes)


def _permanent(tensors: dict[str, Tensor], wanted: Mapping[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    """Pruning masks multiplied into their weights (``torch.nn.utils.prune`` and parametrizations)."""
    made, zeros, total = dict(tensors), 0, 0
    for name in tensors:
        plain = name.removesuffix("_orig") if name.endswith("_orig") else name.removesuffix(".original")
        mask = f"{plain}_mask" if name.endswith("_orig") else f"{plain}.0.mask"
        if plain == name or name in wanted or mask not in tensors:
            continue
        product = made.pop(name) * made.pop(mask)
        made[plain.replace("parametrizations.", "")] = product
        zeros, total = zeros + int((product == 0).sum()), total + product.numel()
    if total:
        notes.append(f"made pruning masks permanent: {zeros} of {total} weights are zero")
    return made


def _without_wrappers(tensors: dict[str, Tensor], wanted: Mapping[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    """Without the name parts that ``DataParallel`` (module) and ``torch.compile`` (_orig_mod) insert."""
    own = {part for name in wanted for part in name.split(".")}
    gone = {"module", "_orig_mod"} - own
    made = {".".join(part for part in name.split(".") if part not in gone): tensor for name, tensor in tensors.items()}
    if len(made) < len(tensors):
        return tensors
    removed = sorted(part for part in gone if any(part in name.split(".") for name in tensors))
    if removed:
        notes.append(f"removed the prefix {' and '.join(f'{part}.' for part in removed)}")
    return made


def _without_prefix(tensors: dict[str, Tensor], needed: list[str], notes: list[str]) -> dict[str, Tensor]:
    """The part of the tensors under the one prefix that completes the architecture."""
    if not needed:
        return tensors
    ends = [name.removesuffix(needed[0]) for name in tensors if name.endswith(f".{needed[0]}")]
    fits = [prefix for prefix in ends if all(prefix + name in tensors for name in needed)]
    averaged = [prefix for prefix in fits if any(part.strip("_") in _AVERAGED for part in prefix.split("."))]
    fits = averaged if len(averaged) == 1 else fits
    if len(fits) > 1:
        raise Refused(f"the weights are there under several prefixes: {', '.join(sorted(fits))}; save one of them")
    if not fits:
        return tensors
    kept = {name.removeprefix(fits[0]): tensor for name, tensor in tensors.items() if name.startswith(fits[0])}
    others = sorted({name.split(".")[0] for name in tensors if not name.startswith(fits[0])})
    notes.append(f"removed the prefix {fits[0]}" + (f" and left out {', '.join(others)}" if others else ""))
    return kept
