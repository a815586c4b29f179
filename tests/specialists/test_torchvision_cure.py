"""The operators that torchvision misses beside a CPU torch."""

import torch

from specialists.torchvision_cure import apply, non_maximum_suppression


def test_boxes_that_overlap_a_better_one_are_dropped() -> None:
    boxes = torch.tensor(
        [
            [0.0, 0.0, 10.0, 10.0],
            [1.0, 0.0, 11.0, 10.0],  # shares 90 of 110 with the first
            [5.0, 0.0, 15.0, 10.0],  # shares 50 of 150 with the first, 60 of 140 with the second
            [20.0, 20.0, 30.0, 30.0],
        ]
    )
    scores = torch.tensor([0.8, 0.9, 0.5, 0.95])
    assert non_maximum_suppression(boxes, scores, 0.5).tolist() == [3, 1, 2]
    assert non_maximum_suppression(boxes, scores, 0.4).tolist() == [3, 1]
    assert non_maximum_suppression(boxes, scores, 0.99).tolist() == [3, 1, 0, 2]


def test_no_boxes_keep_none() -> None:
    assert non_maximum_suppression(torch.zeros(0, 4), torch.zeros(0), 0.5).tolist() == []


def test_torchvision_imports_after_the_cure_and_applying_it_again_changes_nothing() -> None:
    first = apply()
    import torchvision

    assert apply() is first
    boxes, scores = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4]]), torch.tensor([0.1, 0.2])
    assert torchvision.models.get_model_weights
    assert torch.ops.torchvision.nms(boxes, scores, 0.5).tolist() == [1]
