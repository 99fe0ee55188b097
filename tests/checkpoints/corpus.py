# Copyright (c) mmcim contributors. All rights reserved.
"""A corpus of small files of weights, each with its expected outcome.

A case writes a file from tensors that it knows, renamed by the tables below, and states
which of them are then in the module, or what the error names. Nothing here asks
the loader, so that the corpus holds for any loader.
"""

import os
import re
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from torch import Tensor

from mmcim.checkpoints.record import BackboneRecord, save_backbone, tensors_sha256

from .beit_tables import resized_table
from .conftest import build, resnet, vit

VIT = vit()  # 4 x 4 patches, width 32, 2 layers, 4 heads
SCALED = vit(layer_scale_init_value=0.1)
DISTILLED = vit('DistilledVisionTransformer')
BEIT = vit('FusedBEiTViT', final_norm=True)
SHARED = dict(BEIT, use_shared_rel_pos_bias=True, use_rel_pos_bias=False)
RESNET = resnet()
AVERAGED = vit(out_type='avg_featmap')  # with a norm of the mean, ln2
LINEAR = dict(type='LinearClsHead', num_classes=3, in_channels=32)
CLASSIFIER = dict(type='ImageClassifier', backbone=AVERAGED, head=LINEAR)
TABLE, INDEX = 'relative_position_bias_table', 'relative_position_index'
ENHANCER, GENERATOR = 'enhancer.backbone.', 'generator.backbone.'

# mmpretrain's names -> those of others; the first pattern that matches is replaced.
TIMM = {
    r'patch_embed\.projection': 'patch_embed.proj',
    r'ln1': 'norm',
    r'ln2': 'fc_norm',
    r'layers\.(\d+)\.ln': r'blocks.\1.norm',
    r'layers\.(\d+)\.ffn\.layers\.0\.0': r'blocks.\1.mlp.fc1',
    r'layers\.(\d+)\.ffn\.layers\.1': r'blocks.\1.mlp.fc2',
    r'layers\.(\d+)\.(attn|ffn)\.gamma([12])\.weight': r'blocks.\1.ls\3.gamma',
    r'layers\.': 'blocks.',
}


class Case(NamedTuple):
    """A file, the module that it is loaded into, and the outcome."""

    path: Path
    module: dict  # config of the module
    # Expected values, exactly and up to rounding. All others are unchanged.
    expected: dict[str, Tensor] = {}
    resized: dict[str, Tensor] = {}
    error: tuple[str, ...] | None = None  # what the message names besides the file
    prefix: str | None = None
    total: int | None = None  # of the backbone, where other parts arrive as well


CASES: dict[str, Callable[..., Case]] = {}


def cases(**variants: tuple) -> Callable:
    """Register a case for each variant: its name, and arguments of the function."""

    def register(function: Callable[..., Case]) -> Callable[..., Case]:
        CASES.update((name, partial(function, *args)) for name, args in variants.items())
        return function

    return register


def draw(config: dict, seed: int = 0) -> dict[str, Tensor]:
    """Draw all tensors of a module but the index buffers, which follow from its size."""
    torch.manual_seed(seed)
    return {
        # Counters are 0 in any new module, so that 0 would not show that they arrive.
        name: value.clone() if value.is_floating_point() else torch.full_like(value, 7)
        for name, value in build(config).state_dict().items()
        if not name.endswith(INDEX)
    }


def rename(tensors: dict[str, Tensor], table: dict[str, str] = TIMM) -> dict[str, Tensor]:
    renamed = {}
    for name, value in tensors.items():
        old = next((pattern for pattern in table if re.match(pattern, name)), '')
        renamed[re.sub(f'^{old}', table.get(old, ''), name)] = value
    return renamed


def below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in tensors.items()}


def head(name: str = 'head') -> dict[str, Tensor]:
    return {f'{name}.weight': torch.ones(5, 32), f'{name}.bias': torch.ones(5)}


def write(path: Path, content: Any, **kwargs: Any) -> Path:
    save = save_file if path.suffix == '.safetensors' else torch.save
    save(content, path, **kwargs)
    return path


def own_checkpoint(path, model, state, record, **cfg):
    """Write a training checkpoint of mmengine and mmcim."""
    meta = dict(epoch=1, iter=10, backbone=record.dumps())
    meta |= dict(cfg=Config(dict(model=model, **cfg)).pretty_text)
    hub = dict(log_scalars={'train/loss': dict(log=[0.5], count=[1])}, runtime_info={})
    optimizer = dict(state={0: dict(exp_avg=torch.zeros(3))}, param_groups=[])
    content = dict(meta=meta, state_dict=state, message_hub=hub, optimizer=optimizer)
    return write(path, content)


def own_file(folder, kind, config, tensors, grid=(4, 4), function=(), **cfg):
    """Write exported backbone weights with their config, or a checkpoint of CIM."""
    record = BackboneRecord(config, tensors_sha256(tensors), grid=grid)
    record.function = dict(function)
    if kind == 'exported':
        path = folder / 'epoch_1_backbone.safetensors'
        save_backbone(path, tensors, record)
        return path
    model = dict(type='CIM', enhancer=dict(backbone=config), generator=dict(backbone=VIT))
    # The generator's backbone is one of the same kind: only the prefix decides.
    state = below(ENHANCER, tensors) | below(GENERATOR, draw(VIT, seed=5)) | head('neck')
    record.prefix = ENHANCER
    return own_checkpoint(folder / 'epoch_1.pth', model, state, record, **cfg)


@cases(mmengine_checkpoint=('state_dict',))
def mmengine_checkpoint(key, folder):
    """A checkpoint of mmpretrain without mmcim: logs are pickled as objects."""
    # Their statistics are pickled as getattr(HistoryBuffer, ...).
    hub = dict(log_scalars={'train/loss': HistoryBuffer([0.5], [1])}, runtime_info={})
    tensors = draw(VIT)
    content = {
        'meta': dict(epoch=1),
        key: below('backbone.', tensors),
        'message_hub': hub,
    }
    return Case(write(folder / 'epoch_1.pth', content), VIT, tensors)


# Other libraries

HEADS = head() | head('head_dist')
REGISTERS = dict(register_tokens=torch.ones(1, 4, 32), mask_token=torch.ones(1, 32))


@cases(
    timm_vit=(VIT, VIT, head()),
    timm_vit_in_state_dict=(VIT, VIT, head(), 'state_dict'),
    plain_safetensors=(VIT, VIT, head(), None, '.safetensors'),
    deit=(VIT, VIT, head(), 'model'),
    deit_distilled=(DISTILLED, DISTILLED, HEADS, 'model'),
    deit_distilled_into_vit=(DISTILLED, VIT, HEADS, 'model', '.pth', 'dist_token'),
    deit_without_dist_token=(VIT, DISTILLED, head(), 'model', '.pth', 'dist_token'),
    dinov2=(SCALED, SCALED, dict(mask_token=torch.ones(1, 32))),
    dinov2_registers=(SCALED, SCALED, REGISTERS, None, '.pth', 'register_tokens'),
)  # fmt: skip
def vit_of_timm(theirs, ours, more, key=None, suffix='.pth', error=None, *, folder):
    tensors = draw(theirs)
    state = rename(tensors) | more
    path = write(folder / f'weights{suffix}', {key: state, 'epoch': 3} if key else state)
    return Case(path, ours, error=(error,)) if error else Case(path, ours, tensors)


@cases(mae_pretraining=())
def mae(folder):
    tensors, other = draw(VIT), rename(draw(VIT, seed=5))
    # The decoder's blocks have the shapes of the encoder's.
    decoder = {k: v for k, v in other.items() if k.startswith(('blocks', 'norm', 'pos'))}
    state = rename(tensors) | below('decoder_', decoder) | head('decoder_pred')
    state['mask_token'] = torch.ones(1, 1, 32)
    args = Namespace(lr=1.5e-4, opt_betas=[0.9, 0.95], resume=None)
    content = dict(model=state, optimizer=dict(state={}), epoch=799, scaler={}, args=args)
    return Case(write(folder / 'mae.pth', content), VIT, tensors)


@cases(
    beit=(BEIT, BEIT),
    beit_shared=(SHARED, SHARED),
    beit_resized=(BEIT, BEIT, (24, 40)),
    beit_shared_resized=(SHARED, SHARED, (24, 40)),
    shared_table_to_layers=(SHARED, BEIT),
    shared_table_to_layers_resized=(SHARED, BEIT, (48, 48)),
)
def beit(theirs, ours, size=(32, 32), *, folder):
    """Official names, with index buffers, which must not be loaded."""
    tensors, layers = draw(theirs), [f'layers.{i}.attn.{TABLE}' for i in range(2)]
    shared = [f'rel_pos_bias.{TABLE}']
    old, new = (shared if config is SHARED else layers for config in (theirs, ours))
    indices = {name.replace(TABLE, INDEX): torch.zeros(9, 9).long() for name in old}
    state = rename(tensors | indices) | head('lm_head')
    path = write(folder / 'beit.pth', dict(module=state, args=Namespace(epochs=800)))
    tables = {name: tensors[old[i % len(old)]] for i, name in enumerate(new)}
    rest = {name: value for name, value in tensors.items() if name not in old}
    if size == (32, 32):
        return Case(path, ours, rest | tables)
    grid = [side // 8 for side in size]
    resized = {k: resized_table(v, (4, 4), grid) for k, v in tables.items()}
    return Case(path, dict(ours, img_size=size), rest, resized)


@cases(
    dino_nested=(None,),
    dino_teacher=('teacher.backbone.',),
    dino_student=('student.module.backbone',),
)
def dino(prefix, folder):
    """By default the teacher, as DINO's own evaluation."""
    student, teacher = draw(VIT), draw(VIT, seed=5)
    content = dict(
        student=below('module.backbone.', rename(student)) | head('module.head.mlp.0'),
        teacher=below('backbone.', rename(teacher)) | head('head.mlp.0'),
        args=Namespace(arch='vit_small'),
    )
    path = write(folder / 'checkpoint.pth', content)
    expected = student if prefix and 'student' in prefix else teacher
    return Case(path, VIT, expected, prefix=prefix)


@cases(
    moco_v3_base=('module.base_encoder.',),
    moco_v3_momentum=('module.momentum_encoder.',),
    two_encoders_without_prefix=(None,),
)
def moco_v3(prefix, folder):
    encoders = {
        'module.base_encoder.': draw(VIT),
        'module.momentum_encoder.': draw(VIT, 5),
    }
    state = head('module.predictor.0')
    for name, tensors in encoders.items():
        state |= below(name, rename(tensors) | head('head.0'))
    path = write(folder / 'moco.pth', dict(state_dict=state, arch='vit_small'))
    if prefix is None:
        return Case(path, VIT, error=tuple(encoders))
    return Case(path, VIT, encoders[prefix], prefix=prefix)


@cases(
    torchvision_resnet=('', True),
    torchvision_resnet_data_parallel=('module.', True),
    torchvision_resnet_before_zip=('', False),
)
def torchvision_resnet(prefix, zipped, folder):
    tensors = draw(RESNET)
    state = below(prefix, tensors | head('fc'))
    path = folder / 'resnet18.pth'
    write(path, state, _use_new_zipfile_serialization=zipped)
    return Case(path, RESNET, tensors)


# transformers' ViT, in which query, key and value are three layers.
HUGGING_FACE = {
    'cls_token': 'embeddings.cls_token',
    r'pos_embed': 'embeddings.position_embeddings',
    r'patch_embed': 'embeddings.patch_embeddings',
    r'ln1': 'layernorm',
    r'layers\.(\d+)\.ln1': r'encoder.layer.\1.layernorm_before',
    r'layers\.(\d+)\.ln2': r'encoder.layer.\1.layernorm_after',
    r'layers\.(\d+)\.attn\.proj': r'encoder.layer.\1.attention.output.dense',
    r'layers\.(\d+)\.attn\.qkv': r'encoder.layer.\1.attention.attention.qkv',
    r'layers\.(\d+)\.ffn\.layers\.0\.0': r'encoder.layer.\1.intermediate.dense',
    r'layers\.(\d+)\.ffn\.layers\.1': r'encoder.layer.\1.output.dense',
}


@cases(hugging_face_vit=())
def hugging_face_vit(folder):
    """Not supported: an error."""
    state = {}
    for name, value in rename(draw(VIT), HUGGING_FACE).items():
        parts = ('query', 'key', 'value') if '.qkv.' in name else ('qkv',)
        for part, chunk in zip(parts, value.chunk(len(parts))):
            state[name.replace('qkv', part)] = chunk.contiguous()
    path = write(folder / 'model.safetensors', state, metadata=dict(format='pt'))
    return Case(path, VIT, error=('embeddings',))


# Files of mmcim


@cases(
    own_pretraining=('pretraining', VIT),
    own_exported=('exported', VIT),
    own_pretraining_into_classifier=('pretraining', CLASSIFIER),
    own_exported_into_classifier=('exported', CLASSIFIER),
    own_generator=('pretraining', VIT, GENERATOR),
)
def own(kind, module, prefix=None, *, folder):
    """The backbone is loaded; head and ``ln2`` stay new."""
    tensors = draw(VIT)
    path = own_file(folder, kind, VIT, tensors)
    if prefix:  # goes before the recorded one
        return Case(path, module, draw(VIT, seed=5), prefix=prefix)
    inner = 'backbone.' if module is CLASSIFIER else ''
    return Case(path, module, below(inner, tensors))


@cases(
    own_classifier=(LINEAR, CLASSIFIER),
    own_classifier_of_other_classes=(dict(LINEAR, num_classes=7), CLASSIFIER),
    own_classifier_into_backbone=(LINEAR, AVERAGED),
)
def own_classifier(linear, module, folder):
    config, backbone = dict(CLASSIFIER, head=linear), draw(AVERAGED)
    state = below('backbone.', backbone)
    both = draw(config) | state
    record = BackboneRecord(AVERAGED, tensors_sha256(backbone), 'backbone.')
    path = own_checkpoint(folder / 'epoch_1.pth', config, both, record)
    expected = backbone if module is AVERAGED else both if linear is LINEAR else state
    return Case(path, module, expected, total=len(backbone))


@cases(
    another_hash_in_exported=('exported',), another_hash_in_pretraining=('pretraining',)
)
def another_hash(kind, folder):
    """The record belongs to other tensors."""
    tensors = draw(VIT)
    path = own_file(folder, kind, VIT, tensors)
    data, value = path.read_bytes(), tensors['ln1.bias'].numpy().tobytes()
    if kind == 'exported':
        at = data.rindex(value)
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    else:
        content = torch.load(path)
        content['state_dict'][f'{ENHANCER}ln1.bias'][3] += 1e-6
        write(path, content)
    return Case(path, VIT, error=('SHA-256',))


@cases(
    unregistered_class_in_exported=('exported',),
    unregistered_class_in_pretraining=('pretraining',),
)
def unregistered_class(kind, folder):
    """Types in a file's config are not imported; the weights are loaded."""
    code = "import os; os.mkdir(os.path.join(os.path.dirname(__file__), 'executed'))"
    library = f'never_imported_{kind}'  # another one each time: modules are cached
    (folder / f'{library}.py').write_text(code)
    tensors, config = draw(VIT), dict(type=f'{library}.Network')
    imports = dict(custom_imports=dict(imports=[library]))
    return Case(own_file(folder, kind, config, tensors, **imports), VIT, tensors)


# Other grids


@cases(
    positions_of_square=((32, 32), (48, 48)),
    positions_of_square_to_rectangle=((32, 32), (24, 40)),
    positions_of_rectangle_in_exported=((16, 64), (32, 32), 'exported'),
    positions_of_rectangle_in_pretraining=((16, 64), (32, 32), 'pretraining'),
    positions_of_unrecorded_rectangle=((16, 40), (32, 32), None, 'grid'),
    positions_of_two_possible_grids=((32, 32), (16, 64), None, 'grid'),
)
def positions(theirs, ours, kind=None, error=None, *, folder):
    config, module = (dict(VIT, img_size=size) for size in (theirs, ours))
    old, new = ([side // 8 for side in size] for size in (theirs, ours))
    tensors = draw(config)
    if kind:
        path = own_file(folder, kind, config, tensors, grid=old)
    else:
        path = write(folder / 'vit.pth', rename(tensors))
    if error:
        return Case(path, module, error=(error,))
    embed = tensors.pop('pos_embed')
    if old[0] == old[1]:
        return Case(
            path, module, tensors, dict(pos_embed=resample_abs_pos_embed(embed, new))
        )
    # timm before 1.0.31 leaves 2 x 8 positions alone where 4 x 4 are asked for.
    patches = embed[:, 1:].mT.unflatten(2, old)
    patches = F.interpolate(patches, new, mode='bicubic', antialias=True)
    resized = torch.cat((embed[:, :1], patches.flatten(2).mT), dim=1)
    return Case(path, module, tensors, dict(pos_embed=resized))


# Mismatches, in the module's own names, so that any loader reports the same ones


TWO_HEADS, EPS = vit(arch=dict(num_heads=2)), vit(norm_cfg=dict(type='LN', eps=1e-3))
RELU = vit(layer_cfgs=dict(act_cfg=dict(type='ReLU')))


@cases(
    more_layers=(VIT, vit(arch=dict(num_layers=1)), 'layers.1.'),
    fewer_layers=(VIT, vit(arch=dict(num_layers=3)), 'layers.2.'),
    other_width=(VIT, vit(arch=dict(embed_dims=16)), 'patch_embed.projection.weight'),
    other_patch_size=(
        VIT,
        dict(VIT, patch_size=4, img_size=16),
        'patch_embed.projection',
    ),
    layer_scale_without_place=(SCALED, VIT, 'gamma1'),
    tables_without_place=(BEIT, dict(BEIT, use_rel_pos_bias=False), TABLE),
    tables_of_layers_to_shared=(BEIT, SHARED, TABLE),
    backbone_of_another_family=(RESNET, VIT, 'VisionTransformer'),
)
def mismatch(theirs, ours, fragment, folder):
    path = write(folder / 'mismatch.pth', draw(theirs))
    return Case(path, ours, error=(fragment,))


@cases(
    other_heads_in_exported=(TWO_HEADS, 'layers.1.attn.num_heads', 2, 'exported'),
    other_heads_in_pretraining=(TWO_HEADS, 'layers.1.attn.num_heads', 2, 'pretraining'),
    other_eps_in_exported=(EPS, 'layers.0.ln1.eps', 1e-3, 'exported'),
    other_activation=(RELU, 'layers.1.ffn.layers.0.1.type', 'ReLU', 'pretraining'),
)
def other_function(theirs, name, value, kind, folder):
    """The same names and shapes, but the recorded config differs in function."""
    path = own_file(folder, kind, theirs, draw(theirs), function={name: value})
    where, _, what = name.rpartition('.')
    return Case(path, VIT, error=(where, what, str(value)))


@cases(
    missing_final_norm=('ln1.bias', None),
    nan=('layers.1.ln1.weight', torch.nan),
    inf=('layers.1.ln1.weight', -torch.inf),
    integers=('layers.1.ln1.weight', torch.int8),
)
def one_bad_tensor(name, change, folder):
    tensors = draw(VIT)
    value = tensors.pop(name)
    if isinstance(change, torch.dtype):
        tensors[name] = value.to(change)
    elif change is not None:
        tensors[name] = value.index_fill(0, torch.tensor(3), change)
    return Case(write(folder / 'bad.pth', tensors), VIT, error=(name,))


@cases(half=(torch.half, '.pth'), bfloat16=(torch.bfloat16, '.safetensors'))
def low_precision(dtype, suffix, folder):
    """The values of the file in the module's dtype."""
    tensors = {name: value.to(dtype) for name, value in draw(VIT).items()}
    path = write(folder / f'low{suffix}', tensors)
    return Case(path, VIT, {name: value.float() for name, value in tensors.items()})


# Damage and attacks


def flip_bit(data: bytes) -> bytes:
    """Flip the last bit of a weight, which stays plausible."""
    at = data.index(draw(VIT)['pos_embed'].numpy().tobytes())
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


LFS = b'version https://git-lfs.github.com/spec/v1\noid sha256:%b\nsize 99\n' % (
    b'0' * 64
)


@cases(
    truncated=('.pth', lambda data: data[: len(data) // 2]),
    truncated_safetensors=('.safetensors', lambda data: data[: len(data) // 2]),
    empty=('.pth', lambda data: b''),
    empty_safetensors=('.safetensors', lambda data: b''),
    text=('.pth', lambda data: b'<html>404: Not Found</html>\n'),
    lfs_pointer=('.pth', lambda data: LFS),
    lfs_pointer_safetensors=('.safetensors', lambda data: LFS),
    flipped_bit=('.pth', flip_bit),
)
def damaged(suffix, damage, folder):
    path = write(folder / f'weights{suffix}', draw(VIT))
    path.write_bytes(damage(path.read_bytes()))
    return Case(path, VIT, error=())


class MakeFolder(NamedTuple):
    """Pickled as a call that creates a folder."""

    path: Path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@cases(pickled_code=(True,), pickled_code_before_zip=(False,))
def pickled_code(zipped, folder):
    content = dict(state_dict=draw(VIT), meta=MakeFolder(folder / 'executed'))
    path = folder / 'weights.pth'
    write(path, content, _use_new_zipfile_serialization=zipped)
    return Case(path, VIT, error=())
