# Copyright (c) mmcim contributors. All rights reserved.
"""``ViTModel`` and ``BeitModel`` of Hugging Face's transformers."""

from pathlib import Path
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor

from ..layout import tensors_of
from ..names import rename
from ..record import save_safetensors
from .timm import arguments_of, is_beit

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
# timm's arguments -> keys of config.json.
_KEYS = dict(
    patch_size='patch_size',
    embed_dim='hidden_size',
    depth='num_hidden_layers',
    num_heads='num_attention_heads',
    qkv_bias='qkv_bias',
    use_abs_pos_emb='use_absolute_position_embeddings',
    use_rel_pos_bias='use_relative_position_bias',
    use_shared_rel_pos_bias='use_shared_relative_position_bias',
    init_values='layer_scale_init_value',
)


def write(net: BaseModule, normalization: list[list[float]], out: Path) -> str:
    """Write a folder for ``from_pretrained`` of transformers.

    Args:
        net: The network, with its weights. What it puts out becomes what the other
            network does: pooled features, or all tokens.
        normalization: Mean and std of its images, on the scale 0..1.
        out: The folder to write.

    Returns:
        Python code that opens it and maps ``files``, by way of ``read``, to ``pixels``
        and ``features``.

    Raises:
        ValueError: If it is no ViT or BEiT, or its images are not square.
    """
    import transformers  # takes a second, and is not installed everywhere

    kind, pooled = 'Beit' if is_beit(net) else 'ViT', net.out_type == 'avg_featmap'
    config = _config(net)
    config_class = getattr(transformers, f'{kind}Config')
    config_class(architectures=[f'{kind}Model'], **config).save_pretrained(out)
    # That of ViTs squeezes images. This one resizes by a bicubic filter and crops.
    size, (mean, std) = config['image_size'], normalization
    transformers.CLIPImageProcessor(
        size=dict(shortest_edge=size), crop_size=size, image_mean=mean, image_std=std
    ).save_pretrained(out)
    tensors = rename(_split_qkv(tensors_of(net)), _NAMES)
    save_safetensors(out / 'model.safetensors', tensors, dict(format='pt'))
    name = 'pooler_output' if pooled else 'last_hidden_state'
    return (
        f'from transformers import AutoImageProcessor, {kind}Model\n\n'
        f'model = {kind}Model.from_pretrained({str(out)!r}, add_pooling_layer={pooled})\n'
        f'processor = AutoImageProcessor.from_pretrained({str(out)!r})\n'
        'images = [read(file) for file in files]\n'
        "pixels = processor(images, return_tensors='pt').pixel_values\n"
        f'features = model(pixels).{name}\n'
        f'# To fine-tune: {kind}ForImageClassification.from_pretrained(\n'
        f'#     {str(out)!r}, num_labels=10)'
    )


def _split_qkv(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give queries, keys and values a layer each."""
    split: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if '.attn.qkv.' in name:
            parts = zip(('query', 'key', 'value'), value.chunk(3))
            split |= {name.replace('qkv', part): chunk for part, chunk in parts}
        else:  # a BEiT's biases
            name = name.replace('attn.q_bias', 'attn.query.bias')
            split[name.replace('attn.v_bias', 'attn.value.bias')] = value
    return split


def _config(net: BaseModule) -> dict[str, Any]:
    known = arguments_of(net)
    height, width = net.img_size
    if height != width:
        raise ValueError('its image processors are for square images')
    config = {theirs: known[ours] for ours, theirs in _KEYS.items() if ours in known}
    # Without mean pooling, the last tokens are normalised.
    return config | dict(
        intermediate_size=net.layers[0].ffn.layers[0][0].out_features,
        layer_norm_eps=net.layers[0].ln1.eps,
        image_size=height,
        **(dict(use_mean_pooling=not net.final_norm) if is_beit(net) else {}),
    )
