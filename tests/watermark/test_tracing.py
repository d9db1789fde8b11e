import pytest
import torch
from torch import nn
from torch.nn import functional

from auditsvc.errors import InvalidInput
from auditsvc.watermark import ChannelGraph, trace_channels
from auditsvc.watermark.channel_graph import Norm, Wire


class Joined(nn.Module):
    """Two branches beside each other, flattened into a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(1, 3, 3, padding=1)
        self.right = nn.Conv2d(1, 5, 3, padding=1)
        self.head = nn.Linear(8 * 4, 2)

    def forward(self, images):
        both = torch.cat([functional.relu(self.left(images)), self.right(images)], 1)
        return self.head(functional.adaptive_avg_pool2d(both, 2).flatten(1))


def wires(wiring):
    return {step.weight: step for step in wiring.steps if isinstance(step, Wire)}


def test_a_residual_block_has_one_space_for_all_that_is_added(marked):
    found = wires(marked.wiring)
    assert found["conv0.weight"].writes.space == found["blocks.0.conv2.weight"].writes.space
    assert found["blocks.1.conv2.weight"].writes.space == found["blocks.1.conv3.weight"].writes.space
    assert found["blocks.0.conv1.weight"].writes.space != found["blocks.0.conv2.weight"].writes.space
    assert found["head.weight"].reads[0].space == found["blocks.4.conv2.weight"].writes.space


def test_normalisation_keeps_the_order_and_not_the_magnitude(marked):
    norms = [step for step in marked.wiring.steps if isinstance(step, Norm)]
    assert len(norms) == 13
    assert all(norm.reads.space == norm.writes.space and norm.reads.scale != norm.writes.scale for norm in norms)


def test_images_and_answers_are_pinned_and_nothing_else(marked):
    found = wires(marked.wiring)
    ends = {found["conv0.weight"].reads[0].space, found["head.weight"].writes.space}
    assert marked.wiring.pinned == ends


def test_branches_that_are_joined_and_flattened_are_read_in_order():
    wiring = trace_channels(Joined(), torch.rand(2, 1, 8, 8))
    found = wires(wiring)
    spans = found["head.weight"].reads
    assert [span.space for span in spans] == [found["left.weight"].writes.space, found["right.weight"].writes.space]
    assert [span.repeat for span in spans] == [4, 4]


def test_a_layer_that_is_used_twice_reads_what_it_writes(odd, images):
    mirror = wires(trace_channels(odd, images))["mirror.weight"]
    assert mirror.reads[0].space == mirror.writes.space


def test_channels_that_meet_an_unknown_operation_are_pinned():
    class Sorted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3)
            self.last = nn.Conv2d(4, 2, 1)

        def forward(self, images):
            return self.last(self.conv(images).sort(1).values).mean((2, 3))

    wiring = trace_channels(Sorted(), torch.rand(2, 1, 8, 8))
    assert wires(wiring)["conv.weight"].writes.space in wiring.pinned


def test_wiring_is_plain_data(marked):
    assert ChannelGraph.from_json(marked.wiring.as_json()) == marked.wiring
    for wrong in (b"", b"[]", b"{}", b'{"steps": [{"kind": "Wire"}], "sizes": [], "pinned": []}'):
        with pytest.raises(InvalidInput):
            ChannelGraph.from_json(wrong)
