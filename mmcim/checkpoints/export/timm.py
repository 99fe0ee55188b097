# Copyright (c) mmcim contributors. All rights reserved.
"""timm's ``vit_*``, ``beit_*`` and ``resnet*``."""

from pathlib import Path
from typing import Any

from mmengine.model import BaseModule
from mmpretrain.models.backbones import ResNet, VisionTransformer

from ..layout import tensors_of
from ..names import from_mmpretrain
from ..record import save_safetensors


def write(net: BaseModule, normalization: list[list[float]], out: Path) -> str:
    """Write a ``.safetensors`` file for ``timm.create_model``.

    Args:
        net: The network, with its weights. What it puts out becomes what the other
            network does: pooled features, or all tokens.
        normalization: Mean and std of its images, on the scale 0..1.
        out: The file to write.

    Returns:
        Python code that opens it and maps ``files``, by way of ``read``, to ``pixels``
        and ``features``.
    """
    kwargs: dict[str, Any] = dict(checkpoint_path=str(out), num_classes=0)
    pooled = getattr(net, 'out_type', None) == 'avg_featmap'
    if type(net) is ResNet:
        name = f'resnet{net.depth}'
    else:
        name = f'{"beit" if is_beit(net) else "vit"}_base_patch16_224'
        kwargs |= arguments_of(net) | _pooling(net)
    # timm's own preprocessing for this name is another.
    mean, std = map(tuple, normalization)
    cfg: dict[str, Any] = dict(mean=mean, std=std, interpolation='bicubic', crop_pct=1.0)
    cfg['input_size'] = (3, *getattr(net, 'img_size', (224, 224)))
    kwargs['pretrained_cfg_overlay'] = cfg
    given = [f'    {key}={value!r},\n' for key, value in kwargs.items()]
    call = f'timm.create_model(\n    {name!r},\n{"".join(given)})'
    metadata = dict(create_model=call.replace(str(out), out.name))
    save_safetensors(out, from_mmpretrain(tensors_of(net)), metadata)
    forward = 'model' if pooled else 'model.forward_features'
    return (
        f'import timm\nimport torch\n\nmodel = {call}.eval()\n'
        'config = timm.data.resolve_model_data_config(model)\n'
        'transform = timm.data.create_transform(**config)\n'
        'pixels = torch.stack([transform(read(file)) for file in files])\n'
        f'features = {forward}(pixels)\n'
        '# To fine-tune: model.reset_classifier(10); model(pixels) gives its logits.'
    )


def _pooling(net: BaseModule) -> dict[str, Any]:
    if is_beit(net):
        # Averaging would take the norm of the tokens away.
        return dict(global_pool='token' if net.final_norm else 'avg')
    pool = 'token' if net.out_type == 'cls_token' else 'avg'
    pooled_norm = net.out_type == 'avg_featmap'
    final_norm = net.final_norm or pooled_norm
    return dict(global_pool=pool, fc_norm=pooled_norm, final_norm=final_norm)


def is_beit(net: BaseModule) -> bool:
    """Tell a BEiT from a ViT.

    Raises:
        ValueError: If it is neither.
    """
    # Only mmpretrain's BEiTViT and mmcim's encoder have this attribute.
    beit = hasattr(net, 'use_rel_pos_bias')
    if not beit and not isinstance(net, VisionTransformer):
        raise ValueError('only a ViT, a BEiT or, to timm, a ResNet can be')
    return beit


def arguments_of(net: BaseModule) -> dict[str, Any]:
    """Describe a ViT or BEiT, but for its pooling, by the arguments of timm's."""
    layer = net.layers[0]
    scaled = any('gamma' in name for name, _ in layer.named_parameters())
    known = dict(
        img_size=tuple(net.img_size),
        patch_size=net.patch_embed.projection.kernel_size[0],
        embed_dim=net.embed_dims,
        depth=net.num_layers,
        num_heads=layer.attn.num_heads,
        mlp_ratio=layer.ffn.layers[0][0].out_features / net.embed_dims,
    )
    if is_beit(net):
        return known | dict(
            qkv_bias=bool(layer.attn.bias),
            use_abs_pos_emb=net.pos_embed is not None,
            use_rel_pos_bias=net.use_rel_pos_bias,
            use_shared_rel_pos_bias=net.rel_pos_bias is not None,
            # The values are in the file. create_model ignores None.
            init_values=0.1 if scaled else 0.0,
        )
    scales = dict(init_values=1.0) if scaled else {}
    bias, token = layer.attn.qkv.bias is not None, net.cls_token is not None
    return known | dict(qkv_bias=bias, class_token=token) | scales
