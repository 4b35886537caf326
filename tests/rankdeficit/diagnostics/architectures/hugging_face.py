"""Classifiers of transformers, small and random, and batches as its collators make them."""

from collections.abc import Callable
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn

CLASSES, VOCABULARY, SIDE = 3, 40, 32

SMALL: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
}  # fmt: skip
TOKENS: dict[str, Any] = {
    "vocab_size": VOCABULARY, "max_position_embeddings": 40, "pad_token_id": 0, "eos_token_id": 2,
}  # fmt: skip
DECODER: dict[str, Any] = {"d_model": 16, "bos_token_id": 1, **TOKENS}
IMAGE: dict[str, Any] = {"image_size": SIDE, "num_channels": 3}

TEXT: dict[str, tuple[str, dict[str, Any]]] = {
    "BERT": ("Bert", SMALL | TOKENS),
    "RoBERTa": ("Roberta", SMALL | TOKENS),
    "DistilBERT": (
        "DistilBert",
        TOKENS | {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24},
    ),
    "ALBERT": ("Albert", SMALL | TOKENS | {"embedding_size": 8}),
    "ELECTRA": ("Electra", SMALL | TOKENS | {"embedding_size": 8}),
    "DeBERTa-v2": ("DebertaV2", SMALL | TOKENS),
    "MPNet": ("MPNet", SMALL | TOKENS),
    "ConvBERT": ("ConvBert", SMALL | TOKENS | {"embedding_size": 16}),
    "GPT-2": ("GPT2", TOKENS | {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 40}),
    "GPT-NeoX": ("GPTNeoX", SMALL | TOKENS),
    "OPT": (
        "OPT",
        SMALL | TOKENS | {"ffn_dim": 24, "word_embed_proj_dim": 16},
    ),
    "Llama": ("Llama", SMALL | TOKENS),
    "Mistral": ("Mistral", SMALL | TOKENS | {"num_key_value_heads": 1}),
    "Qwen2": ("Qwen2", SMALL | TOKENS | {"num_key_value_heads": 1}),
    "BART": (
        "Bart",
        DECODER
        | {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2}
        | {"decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24}
        | {"decoder_start_token_id": 2, "forced_eos_token_id": 2},
    ),
    "T5": (
        "T5",
        TOKENS
        | {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}
        | {"decoder_start_token_id": 0},
    ),
    "FNet": ("FNet", SMALL | TOKENS | {"tpu_short_seq_length": 8}),
    "Funnel": (
        "Funnel",
        TOKENS | {"d_model": 16, "block_sizes": [1, 1], "n_head": 2, "d_head": 8, "d_inner": 24},
    ),
}

STAGES: dict[str, Any] = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
PATCHES: dict[str, Any] = SMALL | IMAGE | {"patch_size": 8}

IMAGES: dict[str, tuple[str, dict[str, Any]]] = {
    "ViT": ("ViT", PATCHES),
    "DeiT": ("DeiT", PATCHES),
    "BEiT": ("Beit", PATCHES),
    "DINOv2": ("Dinov2", PATCHES),
    "Swin": ("Swin", IMAGE | STAGES | {"patch_size": 2}),
    "Swin v2": ("Swinv2", IMAGE | STAGES | {"patch_size": 2}),
    "ConvNeXt": ("ConvNext", IMAGE | {"hidden_sizes": [8, 12], "depths": [1, 1], "num_stages": 2}),
    "ResNet": ("ResNet", {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1]}),
    "RegNet": (
        "RegNet",
        {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1], "groups_width": 4},
    ),
    "MobileNetV2": ("MobileNetV2", {"image_size": SIDE, "depth_multiplier": 0.25}),
    "MobileViT": (
        "MobileViT",
        {"image_size": 64, "hidden_sizes": [16, 20, 24], "neck_hidden_sizes": [8, 8, 12, 16, 16, 16, 24]},
    ),
    "SegFormer": (
        "Segformer",
        {"num_encoder_blocks": 2, "depths": [1, 1], "hidden_sizes": [8, 16], "sr_ratios": [2, 1]}
        | {"num_attention_heads": [1, 2], "patch_sizes": [3, 3], "strides": [2, 2], "mlp_ratios": [2, 2]}
        | {"decoder_hidden_size": 8},
    ),
    "PoolFormer": (
        "PoolFormer",
        {"depths": [1, 1], "hidden_sizes": [8, 12], "patch_sizes": [3, 3], "strides": [2, 2]}
        | {"padding": [1, 1], "num_encoder_blocks": 2, "mlp_ratio": 2.0},
    ),
}  # fmt: skip


def text_model(name: str) -> nn.Module:
    """A classifier of sequences."""
    kind, options = TEXT[name]
    return _model(kind, "ForSequenceClassification", options)


def side_of(name: str) -> int:
    """Pixels per side of the images that a model of `IMAGES` takes."""
    return int(IMAGES[name][1].get("image_size", SIDE))


def image_model(name: str) -> nn.Module:
    """A classifier of images."""
    kind, options = IMAGES[name]
    return _model(kind, "ForImageClassification", options)


def text_batches(samples: int, seed: int) -> list[Any]:
    """Batches of sentences of several lengths, padded by the tokenizer's collator."""
    words = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3}
    words |= {f"w{number}": number for number in range(len(words), VOCABULARY)}
    inner = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )
    generator = torch.Generator().manual_seed(seed)
    items = []
    for number in range(samples):
        length = int(torch.randint(3, 9, (), generator=generator))
        chosen = torch.randint(4, VOCABULARY, (length,), generator=generator).tolist()
        items.append(tokenizer(" ".join(f"w{i}" for i in chosen)) | {"label": number % CLASSES})
    collate = transformers.DataCollatorWithPadding(tokenizer)
    return [collate(items[start : start + 8]) for start in range(0, samples, 8)]


def image_batches(samples: int, seed: int, side: int = SIDE) -> list[Any]:
    """Batches of noise, as the default collator makes them."""
    generator = torch.Generator().manual_seed(seed)
    items = [
        {"pixel_values": torch.randn(3, side, side, generator=generator), "label": number % CLASSES}
        for number in range(samples)
    ]
    collate: Callable[[Any], Any] = transformers.DefaultDataCollator()
    return [collate(items[start : start + 8]) for start in range(0, samples, 8)]


def _model(kind: str, task: str, options: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(num_labels=CLASSES, **options)
    return getattr(transformers, kind + task)(config)
