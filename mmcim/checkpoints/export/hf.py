# Copyright (c) mmcim contributors. All rights reserved.
"""``ViTModel`` and ``BeitModel`` of Hugging Face's transformers."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..names import rename
from ..record import save_safetensors
from .transformer import has_layer_scale, is_beit, tensors_of

# The names of the files on the hub, which all versions of transformers read.
_NAMES = {
    'cls_token': 'embeddings.cls_token',
    'pos_embed': 'embeddings.position_embeddings',
    'patch_embed': 'embeddings.patch_embeddings',
    'rel_pos_bias': 'encoder.relative_position_bias',
    'ln1': 'layernorm',
    'ln2': 'pooler.layernorm',
    'layers.#.ln1': 'encoder.layer.#.layernorm_before',
    'layers.#.ln2': 'encoder.layer.#.layernorm_after',
    'layers.#.attn.relative_position_bias_table': (
        'encoder.layer.#.attention.attention.relative_position_bias'
        '.relative_position_bias_table'
    ),
    'layers.#.attn.proj': 'encoder.layer.#.attention.output.dense',
    'layers.#.attn': 'encoder.layer.#.attention.attention',
    'layers.#.ffn.layers.0.0': 'encoder.layer.#.intermediate.dense',
    'layers.#.ffn.layers.1': 'encoder.layer.#.output.dense',
    'layers.#.gamma_1': 'encoder.layer.#.lambda_1',
    'layers.#.gamma_2': 'encoder.layer.#.lambda_2',
}


class _Output(nn.Module):
    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        self.model = model
        self.name = name

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)[self.name]


def write(
    net: nn.Module, normalization: tuple[list, list] | None, out: Path
) -> tuple[str, nn.Module]:
    """Write a folder for ``from_pretrained`` of transformers.

    Args:
        net: The network, with its weights. What it puts out becomes what the other
            network does: pooled features, or all tokens.
        normalization: Mean and std of its images, on the scale 0..255, if known.
        out: The folder to write.

    Returns:
        Python code that opens it, and the network that this opens.

    Raises:
        ImportError: If transformers is not installed.
        ValueError: If it has no such network, or images are not known to be normalised.
    """
    import transformers

    beit = is_beit(net)
    if normalization is None:
        raise ValueError(
            'the checkpoint does not record mean and std of its images, which '
            'preprocessor_config.json has to have; checkpoints of mmcim do'
        )
    kind, pooler = ('BeitModel' if beit else 'ViTModel'), net.out_type == 'avg_featmap'
    out.mkdir()
    tensors = rename(_split_qkv(tensors_of(net)), _NAMES)
    save_safetensors(out / 'model.safetensors', tensors, dict(format='pt'))
    config = _common_config(net) | dict(architectures=[kind])
    config |= _beit_config(net) if beit else _vit_config(net)
    (out / 'config.json').write_text(json.dumps(config, indent=2))
    processor = _processor_config(net, *normalization)
    processor['image_processor_type'] = kind.replace('Model', 'ImageProcessor')
    (out / 'preprocessor_config.json').write_text(json.dumps(processor, indent=2))

    model, info = getattr(transformers, kind).from_pretrained(
        out, add_pooling_layer=pooler, output_loading_info=True
    )
    if any(info.values()):
        raise ValueError(f'{kind} loads with {info}')
    net.out_type = 'avg_featmap' if pooler else 'raw'
    usage = (
        f'from transformers import AutoImageProcessor, {kind}\n\n'
        f"model = {kind}.from_pretrained('{out}', add_pooling_layer={pooler})\n"
        f"processor = AutoImageProcessor.from_pretrained('{out}')"
    )
    name = 'pooler_output' if pooler else 'last_hidden_state'
    return usage, _Output(model.eval(), name)


def _split_qkv(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give queries, keys and values a layer each."""
    split = {}
    for name, value in tensors.items():
        if '.attn.qkv.' in name:
            parts = zip(('query', 'key', 'value'), value.chunk(3))
            split |= {name.replace('qkv', part): chunk for part, chunk in parts}
        else:  # a BEiT's biases
            name = name.replace('attn.q_bias', 'attn.query.bias')
            split[name.replace('attn.v_bias', 'attn.value.bias')] = value
    return split


def _common_config(net: nn.Module) -> dict[str, Any]:
    layer, patches = net.layers[0], net.patch_embed.projection
    height, width = net.img_size
    return dict(
        hidden_size=net.embed_dims,
        num_hidden_layers=net.num_layers,
        num_attention_heads=layer.attn.num_heads,
        intermediate_size=layer.ffn.layers[0][0].out_features,
        layer_norm_eps=layer.ln1.eps,
        image_size=height if height == width else [height, width],
        patch_size=patches.kernel_size[0],
        num_channels=patches.in_channels,
    )


def _vit_config(net: nn.Module) -> dict[str, Any]:
    return dict(model_type='vit', qkv_bias=net.layers[0].attn.qkv.bias is not None)


def _beit_config(net: nn.Module) -> dict[str, Any]:
    return dict(
        model_type='beit',
        use_absolute_position_embeddings=net.pos_embed is not None,
        use_relative_position_bias=net.use_rel_pos_bias,
        use_shared_relative_position_bias=net.rel_pos_bias is not None,
        layer_scale_init_value=0.1 if has_layer_scale(net) else 0.0,
        # Without it, the last tokens are normalised.
        use_mean_pooling=not net.final_norm,
    )


def _processor_config(
    net: nn.Module, mean: list[float], std: list[float]
) -> dict[str, Any]:
    height, width = net.img_size
    return dict(
        size=dict(height=height, width=width),
        do_center_crop=False,
        resample=3,  # bicubic
        image_mean=[round(v / 255, 8) for v in mean],
        image_std=[round(v / 255, 8) for v in std],
    )
