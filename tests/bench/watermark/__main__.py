"""Mark, attack, look again: a table, and one line of JSON.

Nothing is read from outside the project and nothing is kept.  On two cores it takes some minutes.

``acc_change_pp_mean``, ``flips_pct_max``
    accuracy change and largest share of changed answers over ``keys`` keys, on writers that nobody saw
``z``, ``uchida_log10p``, ``trigger_log10p``
    by attack; the peers sit in the same attacked network.  Uchida's bits are read as published and after our own
    alignment was lent to it, and the better of the two counts.
``fp_trials``, ``fp_min_log10p``
    random keys on networks that don't carry them, and the smallest p among them
``forged_z_max``, ``unbound_forged_z``
    a forger subtracts a pattern from our network and claims the rest as the original: with the digest in the key,
    largest of 200 trials, and without
``verify_s``
    seconds for one test, alignment included
"""

import json
import sys
import time
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import kstest
from torch import Tensor

from auditsvc.records import Digest, Mark
from auditsvc.watermark import (
    ChannelGraph,
    Detection,
    Payload,
    Queries,
    derive_seed,
    detect,
    embed,
    prepare_queries,
    reveal_subkey,
    trace_channels,
    verify_reveal,
    weights_digest,
)
from auditsvc.watermark.alignment import align
from auditsvc.watermark.detector import arrays, compare
from auditsvc.watermark.gradients import filter_scales
from auditsvc.watermark.watermark_keys import all_subkeys, carrier
from tests.bench.watermark.attacks import Weights, attacks, disguised, fine_tuned, quantised, same_function
from tests.bench.watermark.digits import Digits, Net, accuracy, answers, candidate, copied, read_digits
from tests.bench.watermark.peers import LAYER, Triggers, Uchida

MASTER = bytes(range(32))
KEYS, NULL_KEYS, FORGERIES = 5, 1000, 200

BARS = {
    "none": 0.98, "fp16": 0.95, "int8": 0.90, "int4": 0.25, "prune_50": 200, "prune_70": 150, "prune_90": 70,
    "overwrite_3x": 80, "permute_rescale_flip_int8": 120, "structured_30": 200, "structured_30_finetune_2": 50,
    "finetune_1": 150, "finetune_5": 60, "head_reinit_3": 35, "mix_of_10": 80,
}  # fmt: skip
"""What z should reach; up to 1 as a share of the root of the number of weights."""


@dataclass(frozen=True)
class Released:
    """One marked copy, and all that is needed to find it."""

    original: Weights
    weights: Weights
    wiring: ChannelGraph
    unmarked: Digest
    seed: bytes
    payload: Payload
    mark: Mark

    def find(self, suspect: Weights) -> Detection:
        return detect(
            suspect, self.original, seed=self.seed, unmarked=self.unmarked, payload=self.payload, wiring=self.wiring
        )


def release(net: Net, data: Digits, name: str, recipient: int = 0) -> Released:
    original = copied(net)
    unmarked = weights_digest(original)
    payload = Payload(1, recipient)
    seed = derive_seed(MASTER, unmarked, name, f"customer-{recipient}")
    weights, mark = embed(net, net, data.train[0], seed=seed, unmarked=unmarked, payload=payload)
    return Released(original, weights, trace_channels(net, data.pool[:2]), unmarked, seed, payload, mark)


def fidelity(net: Net, data: Digits) -> tuple[float, float, float]:
    """Mean and worst accuracy change in percentage points, and the largest share of changed answers in percent."""
    base, before = accuracy(net, data.test), answers(net, data.test[0]).argmax(1)
    changes, flips = [], []
    for key in range(KEYS):
        start = time.process_time()
        one = release(net, data, f"fidelity-{key}")
        took, marked = time.process_time() - start, Net.holding(one.weights)
        changes.append(accuracy(marked, data.test) - base)
        flips.append(float((answers(marked, data.test[0]).argmax(1) != before).double().mean()) * 100)
        epsilon, weights = one.mark.parameters["epsilon"], one.mark.parameters["weights"]
        say(f"  key {key}: epsilon {epsilon:.3f}, {weights} weights, accuracy {base:.2f} {changes[-1]:+.2f} pp, "
            f"flips {flips[-1]:.2f} %, {took:.1f} s of one core")  # fmt: skip
    return float(np.mean(changes)), float(np.min(changes)), max(flips)


def robustness(one: Released, data: Digits, uchida: Uchida, triggers: Triggers) -> dict[str, dict[str, float]]:
    """A row of the table for each attack."""
    rows, root = {}, one.mark.parameters["weights"] ** 0.5
    say(f"{'attack':<27}{'acc %':>7}{'z':>8}{'bar':>7}{'log10 p':>10}{'bits':>6}{'blind':>7}{'aligned':>8}"
        f"{'Uchida':>8}{'+align':>8}{'trigger':>8}")  # fmt: skip
    for name, attack in attacks(one.weights, one.wiring, data).items():
        suspect = attack()
        found, net = one.find(suspect), Net.holding(suspect)
        turned = align(arrays(suspect), arrays(one.original), one.wiring).get(LAYER)
        plain = uchida.log10_p(suspect[LAYER])
        lent = uchida.log10_p(torch.from_numpy(turned)) if turned is not None else 0.0
        rows[name] = {"z": found.z, "uchida": min(plain, lent), "trigger": triggers.log10_p(net)}
        say(f"{name:<27}{accuracy(net, data.test):>7.2f}{found.z:>8.1f}{bar(name, root):>7}{found.log10_p:>10.1f}"
            f"{found.bits_matched:>6}{found.blind_z:>7.1f}{'yes' if found.aligned else 'no':>8}"
            f"{plain:>8.1f}{lent:>8.1f}"
            f"{rows[name]['trigger']:>8.1f}{missed(name, found.z, root)}")  # fmt: skip
    return rows


def bar(name: str, root: float) -> str:
    limit = BARS.get(name)
    return "" if limit is None else f"{limit * root if limit <= 1 else limit:.0f}"


def missed(name: str, z: float, root: float) -> str:
    limit = bar(name, root)
    return "  MISSED" if limit and z < float(limit) else ""


def mixing(net: Net, data: Digits, first: Released) -> dict[str, float]:
    """Recipients average their copies: each is still traced, and somebody who took no part is not."""
    copies = [first, *(release(net, data, "attacked", recipient) for recipient in range(1, 10))]
    innocent = derive_seed(MASTER, first.unmarked, "attacked", "customer-77")
    result = {}
    for count in (2, 5, 10):
        mixed = {n: sum(c.weights[n] for c in copies[:count]) / count for n in first.weights}
        z = min(one.find(mixed).z for one in copies[:count])
        other = detect(mixed, first.original, seed=innocent, unmarked=first.unmarked, payload=Payload(1, 77))
        late = missed(f"mix_of_{count}", z, 1)
        say(f"  mix of {count:>2}: least z of a colluder {z:.1f}{late}, innocent {other.z:+.1f}")
        result[f"mix_of_{count}"] = z
    return result


def false_positives(one: Released, suspects: dict[str, Weights]) -> tuple[int, float]:
    """Random keys and messages on networks that carry none of them."""
    least, trials = 0.0, 0
    for name, suspect in suspects.items():
        comparison, scores = compare(suspect, one.original, one.wiring), []
        for key in range(NULL_KEYS):
            seed = derive_seed(MASTER, one.unmarked, f"null-{key}")
            found = comparison.judge(all_subkeys(seed), one.unmarked, Payload(key))
            scores.append(found.z)
            least = min(least, found.log10_p)
        trials += NULL_KEYS
        say(f"  {name:<34} mean {np.mean(scores):+.3f}  sd {np.std(scores):.3f}  largest {max(scores):.2f}  "
            f"Kolmogorov-Smirnov p {kstest(scores, 'norm').pvalue:.2f}  lineage {comparison.lineage:.2f}")  # fmt: skip
    return trials, least


def forgeries(one: Released) -> tuple[float, float]:
    """Largest z of forged originals with the digest in the key, and z of the same forgery without it."""
    largest, unbound = 0.0, 0.0
    for trial in range(FORGERIES):
        guess = weights_digest(one.weights)  # the forger can't know the digest of what is only being made
        subkeys = all_subkeys(derive_seed(b"forger" * 6, guess, f"trial-{trial}"))
        forged = {n: w - pattern(w, subkeys, guess, n) if w.dim() > 1 else w for n, w in one.weights.items()}
        comparison = compare(one.weights, forged, None)
        bound = weights_digest(forged)
        seed = derive_seed(b"forger" * 6, bound, f"trial-{trial}")
        largest = max(largest, abs(comparison.judge(all_subkeys(seed), bound, Payload(7)).z))
        unbound = max(unbound, comparison.judge(subkeys, guess, Payload(7)).z)
    return largest, unbound


def pattern(weight: Tensor, subkeys: dict[int, bytes], digest: Digest, name: str) -> Tensor:
    signs = torch.from_numpy(carrier(subkeys, digest, name, weight.numel()).carrying(Payload(7))).reshape(weight.shape)
    return 0.05 * filter_scales(weight) * signs


def black_box(net: Net, one: Released, data: Digits) -> None:
    """Answers only."""
    for halfway in (False, True):
        queries = prepare_queries(
            net, net, data.pool, seed=one.seed, unmarked=one.unmarked, payload=one.payload, halfway=halfway
        )
        kind = "halfway between two images" if halfway else "ordinary images"
        say(f"  {len(queries.first)} queries, {kind}:")
        for name, suspect in (
            ("marked", one.weights), ("int8", quantised(one.weights, 8)),
            ("marked, fine-tuned 1 epoch", fine_tuned(one.weights, data, 1)),
            ("unmarked", one.original), ("unmarked, fine-tuned", fine_tuned(one.original, data, 1)),
        ):  # fmt: skip
            say(f"    {name:<28}{asked(queries, suspect)}")


def asked(queries: Queries, suspect: Weights) -> str:
    told = answers(Net.holding(suspect), queries.images)
    logits, labels = queries.test(told), queries.test(told.argmax(1))
    rounded = queries.test((told.softmax(1) * 100).round() / 100)
    return f"z by logits {logits.z:7.1f}, percentages {rounded.z:7.1f}, labels {labels.z:7.1f}"


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    began = time.monotonic()
    data = read_digits()
    say("Training a candidate of 380 thousand weights, half of them pruned")
    net = candidate(data)
    say(f"  accuracy {accuracy(net, data.test):.2f} % on {len(data.test[1])} images of unseen writers")
    say(f"Fidelity over {KEYS} keys")
    mean, worst, flips = fidelity(net, data)
    say(f"  mean {mean:+.2f} pp (bar -0.10), worst {worst:+.2f} pp (bar -0.25), flips at most {flips:.2f} % (bar 2)")
    clean = copied(net)
    triggers, uchida = Triggers.with_seed(0), Uchida.with_seed(net.state_dict()[LAYER][0].numel(), 1)
    triggers.mark(net, data)
    say(
        f"  peers: accuracy with triggers {accuracy(net, data.test):.2f} %,",
    )
    uchida.mark(net)
    say(f"         and with Uchida's mark {accuracy(net, data.test):.2f} %")
    one = release(net, data, "attacked")
    hidden = disguised(one.weights, one.wiring)
    unseen = same_function(Net.holding(one.weights), Net.holding(hidden), data.test[0][:500])
    say(f"Attacks on a network with all three marks (the disguise changes answers by {unseen:.0e})")
    rows = robustness(one, data, uchida, triggers)
    say("Recipients who mix their copies")
    scores = {name: row["z"] for name, row in rows.items()} | mixing(net, data, one)
    say("One sub-key of sixteen, as an arbiter would test it")
    part = verify_reveal(
        one.weights, one.original, reveal=reveal_subkey(one.seed, 3), mark=one.mark, payload=one.payload
    )
    say(f"  z {part.z:.1f} on {part.coordinates} weights")
    say("Answers only")
    black_box(Net.holding(one.original), one, data)
    say(f"False positives: {NULL_KEYS} random keys on each")
    other = release(net, data, "another", 3)
    independent = copied(candidate(data, seed=50))
    suspects = {
        "unmarked, fine-tuned": fine_tuned(one.original, data, 1), "trained by somebody else": independent,
        "marked with another key, disguised": disguised(other.weights, one.wiring), "the clean parent": clean,
    }  # fmt: skip
    trials, least = false_positives(one, suspects)
    forged, unbound = forgeries(one)
    say(f"Forging: largest |z| of {FORGERIES} bound originals {forged:.2f} (bar 5), unbound {unbound:.0f} (over 100)")
    start = time.monotonic()
    one.find(hidden)
    seconds = time.monotonic() - start
    say(f"One test takes {seconds:.2f} s (bar 5); the whole run took {time.monotonic() - began:.0f} s")
    result = {
        "acc_change_pp_mean": round(mean, 3), "flips_pct_max": round(flips, 3), "keys": KEYS,
        "z": {name: round(z, 1) for name, z in scores.items()},
        "uchida_log10p": {name: round(row["uchida"], 1) for name, row in rows.items()},
        "trigger_log10p": {name: round(row["trigger"], 1) for name, row in rows.items()},
        "fp_trials": trials, "fp_min_log10p": round(least, 2), "forged_z_max": round(forged, 2),
        "unbound_forged_z": round(unbound, 1), "verify_s": round(seconds, 2),
    }  # fmt: skip
    say(json.dumps(result))


if __name__ == "__main__":
    main()
