"""Vision transformers (Dosovitskiy et al., 2021, arXiv 2010.11929)."""

from collections.abc import Callable
from functools import partial

from torch import nn
from torchvision.models.vision_transformer import VisionTransformer

from real_nets.models.build import FEW_STEPS, register
from real_nets.models.libraries import create_timm
from real_nets.models.parts import Norm, Shape, Stem, check_colours, is_small, side_in_patches

SMALL_PATCH, PATCH = 4, 16
HEAD_WIDTH = 64
EXPANSION = 4
"""Width of a block's hidden layer relative to the embedding."""

FROM_SCRATCH = {
    "model": "vit",
    "optimizer": "adamw",
    "lr": 1e-3,
    "clip_norm": None,
    "warmup_epochs": 1.0,
}
"""The small network trained from scratch under budgets for which the pretrained ViT-B is too large."""


@register("ViT")
def vit(
    *,
    inputs: Shape,
    classes: int,
    width: int = 192,
    depth: int = 6,
    stem: Stem = "auto",
    norm: Norm = "layer",
) -> VisionTransformer:
    """torchvision's vision transformer: `depth` blocks on an embedding of `width`.

    Patches have a side of 4 pixels on small images and 16 otherwise; heads have 64 dimensions, or more if
    64 does not divide the width. The classifier has Xavier initialisation, as the other linear layers
    have: torchvision's zeros would make the initial logits norm, the quantity under study, 0 at every
    temperature. Raises ValueError for images whose side is no multiple of the patch, and for
    normalisation other than layer and none, as each token is normalised by itself.
    """
    norms: dict[Norm, Callable[[int], nn.Module]] = {
        "layer": partial(nn.LayerNorm, eps=1e-6),
        "none": lambda channels: nn.Identity(),
    }
    if norm not in norms:
        raise ValueError(f"norm is {norm!r}; vit takes {' or '.join(norms)}")
    check_colours(inputs)
    patch = SMALL_PATCH if is_small(stem, inputs) else PATCH
    model = VisionTransformer(
        image_size=side_in_patches(inputs, patch),
        patch_size=patch,
        num_layers=depth,
        num_heads=_heads(width),
        hidden_dim=width,
        mlp_dim=EXPANSION * width,
        num_classes=classes,
        norm_layer=norms[norm],
    )
    nn.init.xavier_uniform_(model.heads.head.weight)
    return model


@register(
    "ViT-B",
    options={
        "smoke": FROM_SCRATCH | {"width": 48, "depth": 4},
        "small": FROM_SCRATCH | {"width": 64, "depth": 6},
        "paper": {
            "pretrained": True,
            "image_size": 224,
            "epochs": 10,
            "optimizer": "adamw",
            "lr": 1e-5,
            "weight_decay": 0.05,
            "warmup_epochs": 1.0,
            "precision": "bf16",
            "augmentation": "flip",
        },
    },
    temperatures={"smoke": FEW_STEPS, "small": FEW_STEPS},
)
def vit_b16(*, inputs: Shape, classes: int, pretrained: bool = False) -> nn.Module:
    """timm's ViT-B/16, optionally pretrained on ImageNet-21k (Steiner et al., 2022, arXiv 2106.10270).

    Position embeddings are interpolated for sides other than 224 pixels. Raises ValueError for images
    whose side is no multiple of 16 pixels, and as `create_timm`.
    """
    check_colours(inputs)
    side = side_in_patches(inputs, PATCH)
    name = "vit_base_patch16_224.augreg_in21k"
    return create_timm(name, pretrained, num_classes=classes, img_size=side)


def _heads(width: int) -> int:
    """The largest number of heads of HEAD_WIDTH dimensions or more that divides the width."""
    most = max(1, width // HEAD_WIDTH)
    return max(heads for heads in range(1, most + 1) if width % heads == 0)
