# Copyright (c) mmcim contributors. All rights reserved.
"""``ViTModel`` and ``BeitModel`` of Hugging Face's transformers."""

import json
import re
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ...utils.errors import ConfigError
from ...utils.files import atomic_write
from ..file import BackboneFile
from ..record import save_safetensors
from .architecture import (
    Transformer,
    describe_transformer,
    without_key_bias,
)
from .files import Written

# The names of the files on the hub, which all versions of transformers read.
_NAMES = {
    r'cls_token': 'embeddings.cls_token',
    r'pos_embed': 'embeddings.position_embeddings',
    r'patch_embed\.projection\.': 'embeddings.patch_embeddings.projection.',
    r'rel_pos_bias\.(?=relative_position_bias_table)': 'encoder.relative_position_bias.',
    r'ln1\.': 'layernorm.',
    r'ln2\.': 'pooler.layernorm.',
    r'layers\.(\d+)\.ln1\.': r'encoder.layer.\1.layernorm_before.',
    r'layers\.(\d+)\.ln2\.': r'encoder.layer.\1.layernorm_after.',
    r'layers\.(\d+)\.attn\.(?=query|key|value)': r'encoder.layer.\1.attention.attention.',
    r'layers\.(\d+)\.attn\.(?=relative_position_bias_table)': (
        r'encoder.layer.\1.attention.attention.relative_position_bias.'
    ),
    r'layers\.(\d+)\.attn\.proj\.': r'encoder.layer.\1.attention.output.dense.',
    r'layers\.(\d+)\.ffn\.layers\.0\.0\.': r'encoder.layer.\1.intermediate.dense.',
    r'layers\.(\d+)\.ffn\.layers\.1\.': r'encoder.layer.\1.output.dense.',
    r'layers\.(\d+)\.gamma_': r'encoder.layer.\1.lambda_',
}


def write(
    file: BackboneFile, net: nn.Module, tensors: dict[str, Tensor], out: Path
) -> Written:
    """Write a folder for ``from_pretrained`` of transformers.

    Args:
        file: Where the backbone is from.
        net: The network, with its weights.
        tensors: Its tensors.
        out: The folder to write.

    Raises:
        ConfigError: If it is not known how images are normalised.
    """
    tensors, config, arguments = convert(net, tensors)
    if file.normalization is None:
        raise ConfigError(
            f'{file.path} does not record mean and std of its images, which '
            'preprocessor_config.json has to have; checkpoints of mmcim do'
        )
    processor = preprocessor_config(describe_transformer(net), *file.normalization)
    out.mkdir()
    save_safetensors(out / 'model.safetensors', tensors, dict(format='pt'))
    for name, content in (
        ('config.json', config),
        ('preprocessor_config.json', processor),
    ):
        with atomic_write(out / name) as stream:
            stream.write(json.dumps(content, indent=2).encode() + b'\n')
    pooler = arguments['add_pooling_layer']
    net.out_type = 'avg_featmap' if pooler else 'raw'
    kind = config['architectures'][0]
    return Written(
        f'from transformers import AutoImageProcessor, {kind}\n\n'
        f"model = {kind}.from_pretrained('{out}', add_pooling_layer={pooler})\n"
        f"processor = AutoImageProcessor.from_pretrained('{out}')",
        lambda: load(str(out), kind, pooler),
    )


def convert(
    net: nn.Module, tensors: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]]:
    """Convert to transformers.

    Args:
        net (nn.Module): The network, of mmpretrain.
        tensors (dict[str, Tensor]): Its tensors.

    Returns:
        tuple: The tensors under Hugging Face's names, the content of config.json, and
        the arguments of ``from_pretrained``.
    """
    arch = describe_transformer(net)
    if arch.beit:
        tensors = without_key_bias(tensors)
    tensors = {_rename(k): v for k, v in _split_qkv(tensors).items()}
    pooler = arch.beit and arch.pooled_norm
    return tensors, _config(arch), dict(add_pooling_layer=pooler)


def preprocessor_config(
    arch: Transformer, mean: list[float], std: list[float]
) -> dict[str, Any]:
    """Content of preprocessor_config.json.

    Args:
        arch (Transformer): The network.
        mean (list[float]): Of R, G and B, on the scale 0..1.
        std (list[float]): Likewise.
    """
    height, width = arch.img_size
    return dict(
        image_processor_type='BeitImageProcessor' if arch.beit else 'ViTImageProcessor',
        do_resize=True,
        size=dict(height=height, width=width),
        do_center_crop=False,
        resample=3,  # bicubic
        do_rescale=True,
        rescale_factor=1 / 255,
        do_normalize=True,
        image_mean=mean,
        image_std=std,
    )


def load(folder: str, kind: str, pooler: bool) -> nn.Module:
    """Open what was written; gives pooled features, or all tokens.

    Raises:
        ImportError: If transformers is not installed.
        ValueError: If any tensor has no place in the model, or the reverse.
    """
    import transformers

    cls = getattr(transformers, kind)
    model, info = cls.from_pretrained(
        folder, add_pooling_layer=pooler, output_loading_info=True
    )
    if any(info.values()):
        raise ValueError(f'{kind} loads with {info}')
    return _Output(model.eval(), 'pooler_output' if pooler else 'last_hidden_state')


class _Output(nn.Module):
    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        self.model = model
        self.name = name

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)[self.name]


def _split_qkv(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give queries, keys and values a layer each."""
    split = {}
    for name, value in tensors.items():
        match = re.fullmatch(r'(.+\.attn\.)(?:qkv\.(weight|bias)|([qv])_bias)', name)
        if match is None:
            split[name] = value
            continue
        layer, kind, single = match.groups()
        if single:
            split[f'{layer}{dict(q="query", v="value")[single]}.bias'] = value
        else:
            parts = zip(('query', 'key', 'value'), value.chunk(3))
            split |= {f'{layer}{part}.{kind}': chunk for part, chunk in parts}
    return split


def _rename(name: str) -> str:
    for pattern, replacement in _NAMES.items():
        renamed, count = re.subn(f'^{pattern}', replacement, name)
        if count:
            return renamed
    raise ValueError(f'transformers has no place for the tensor {name}')


def _config(arch: Transformer) -> dict[str, Any]:
    height, width = arch.img_size
    config = dict(
        architectures=['BeitModel' if arch.beit else 'ViTModel'],
        model_type='beit' if arch.beit else 'vit',
        hidden_size=arch.embed_dims,
        num_hidden_layers=arch.num_layers,
        num_attention_heads=arch.num_heads,
        intermediate_size=arch.hidden_dims,
        hidden_act='gelu',
        layer_norm_eps=arch.eps,
        image_size=height if height == width else [height, width],
        patch_size=arch.patch_size,
        num_channels=arch.in_channels,
    )
    if not arch.beit:
        return {**config, 'qkv_bias': arch.qkv_bias}
    return dict(
        config,
        use_absolute_position_embeddings=arch.absolute_positions,
        use_relative_position_bias=arch.relative_positions == 'layers',
        use_shared_relative_position_bias=arch.relative_positions == 'shared',
        layer_scale_init_value=0.1 if arch.layer_scale else 0.0,
        # Without it, the last tokens are normalised.
        use_mean_pooling=not arch.token_norm,
    )
