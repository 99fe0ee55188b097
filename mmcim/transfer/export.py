# Copyright (c) mmcim contributors. All rights reserved.
"""Write a trained backbone for another library, and compare the two networks."""

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor, nn

from ..utils.errors import ConfigError
from ..utils.files import atomic_write
from .backbone_file import save_backbone
from .exporters import huggingface, mmseg, timm, torchvision
from .exporters.architecture import describe_transformer, is_transformer
from .layout import is_derived, patch_grid
from .loader import load_backbone_weights
from .source import TrainedBackbone, forward_unmasked, open_backbone

# What --out has to end in; Hugging Face's is a folder.
TARGETS = dict(
    mmpretrain='.safetensors',
    mmseg='.pth',
    timm='.safetensors',
    hf='',
    torchvision='.pth',
)
# Of the difference of features, relative to the largest.
_TOLERANCE = 1e-5


class Export(NamedTuple):
    """What has been written.

    Attributes:
        usage (str): Python code that opens it.
        difference (float | None): Largest difference between features of the two
            networks on random pictures, relative to the largest feature; None if the
            library is not installed, or is mmpretrain itself.
    """

    usage: str
    difference: float | None


class _Written(NamedTuple):
    usage: str
    load: Callable[[], nn.Module] | None
    out_type: str | None


def export_backbone(
    checkpoint: str | Path,
    target: str,
    out: str | Path,
    force: bool = False,
    img_size: tuple[int, int] | None = None,
    prefix: str | None = None,
) -> Export:
    """Write a backbone for another library.

    The file or folder appears only after the other library has opened it and given the
    same features, if the library is installed.

    Args:
        checkpoint (str | Path): Training checkpoint or plain backbone.
        target (str): 'mmpretrain', 'mmseg', 'timm', 'hf' or 'torchvision'.
        out (str | Path): File, or folder for 'hf', to write.
        force (bool): Whether to replace it. Defaults to False.
        img_size (tuple[int, int], optional): Height and width of pictures that the
            positions are resized for. Defaults to those of the training.
        prefix (str, optional): What the names of another backbone in the checkpoint begin
            with. Defaults to that of the one that is kept after training.

    Returns:
        Export: How to open it, and how far the networks agree.

    Raises:
        ConfigError: If the checkpoint is none, if the library has no such network, or
            if its network gives other features.
    """
    out = Path(out)
    if out.suffix != TARGETS[target] and TARGETS[target]:
        raise ConfigError(f'for {target}, --out must end in {TARGETS[target]}, got {out}')
    if out.exists() and not force:
        raise ConfigError(f'{out} exists; add --force to replace it')
    if out.exists() and out.is_dir() != (not TARGETS[target]):
        kinds = ('file', 'folder') if out.is_dir() else ('folder', 'file')
        raise ConfigError(
            f'for {target}, --out is a {kinds[0]}, but {out} is a {kinds[1]}'
        )
    source = open_backbone(checkpoint, prefix)
    if img_size is not None:
        source.config['img_size'] = tuple(img_size)
    net = source.build()
    load_backbone_weights(net, checkpoint, prefix)
    if img_size is not None:
        source.metadata |= dict(
            backbone=json.dumps(source.config), grid=json.dumps(patch_grid(net))
        )
    tensors = {
        name: value.float() if value.is_floating_point() else value
        for name, value in net.state_dict().items()
        if not is_derived(name)
    }
    with _replacing(out) as temporary:
        written = _WRITERS[target](source, net, tensors, temporary)
        difference = _compare(net, written)
        if difference is not None and not difference <= _TOLERANCE:  # NaN, too
            raise ConfigError(
                f'{target} has no network like this {type(net).__name__}: its features '
                f'differ by {difference:.1e} of their size. Nothing was written; '
                '--to mmpretrain keeps the network as it is'
            )
    return Export(written.usage.replace(str(temporary), str(out)), difference)


def _compare(net: nn.Module, written: _Written) -> float | None:
    """Largest relative difference of features on random pictures."""
    if written.load is None:
        return None
    try:
        theirs = written.load()
    except ImportError:
        return None
    except Exception as error:  # whatever a library raises for tensors that do not fit
        raise ConfigError(
            f'what was exported cannot be opened, and nothing was written: {error}'
        ) from error
    if written.out_type:
        net.out_type = written.out_type
    size = getattr(net, 'img_size', (224, 224))
    channels = next(w for w in net.parameters() if w.ndim == 4).shape[1]
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, channels, *size, generator=generator)
    with torch.no_grad():
        expected, found = (forward_unmasked(n, images) for n in (net, theirs))
    if found.shape != expected.shape:
        raise ConfigError(
            f'the exported network gives features of shape {tuple(found.shape)}, this '
            f'one {tuple(expected.shape)}'
        )
    return ((found - expected).abs().max() / expected.abs().max()).item()


def _write_mmpretrain(
    source: TrainedBackbone, net: nn.Module, tensors: dict[str, Tensor], out: Path
) -> _Written:
    save_backbone(out, tensors, source.metadata)
    config = {k: v for k, v in source.config.items() if k != 'init_cfg'}
    init = f"init_cfg=dict(type='Pretrained', checkpoint='{out}')"
    usage = f"custom_imports = dict(imports=['mmcim'])\nbackbone = {_call(config, init)}"
    return _Written(usage, None, None)


def _write_mmseg(
    source: TrainedBackbone, net: nn.Module, tensors: dict[str, Tensor], out: Path
) -> _Written:
    tensors, config = mmseg.convert(net, tensors)
    _save_pth(out, tensors)
    init = f"init_cfg=dict(type='Pretrained', checkpoint='{out}')"
    return _Written(
        f'backbone = {_call(config, init)}',
        lambda: mmseg.load(str(out), config),
        'featmap' if is_transformer(net) else None,
    )


def _write_timm(
    source: TrainedBackbone, net: nn.Module, tensors: dict[str, Tensor], out: Path
) -> _Written:
    tensors, name, kwargs = timm.convert(net, tensors)
    if source.normalization:
        mean, std = map(tuple, source.normalization)
        # timm's own preprocessing for this name is another.
        overlay = dict(mean=mean, std=std)
        if 'img_size' in kwargs:
            overlay['input_size'] = (3, *net.img_size)
        kwargs['pretrained_cfg_overlay'] = overlay
    arguments = ''.join(f',\n    {key}={value!r}' for key, value in kwargs.items())
    usage = (
        f"timm.create_model(\n    {name!r},\n    checkpoint_path='{out}'{arguments},\n)"
    )
    _save_safetensors(out, tensors, dict(create_model=usage.replace(str(out), out.name)))
    pooled = getattr(net, 'out_type', None) == 'avg_featmap'
    out_type = ('avg_featmap' if pooled else 'raw') if is_transformer(net) else None
    output = (
        'features = model(images)'
        if pooled
        else ('features = model.forward_features(images)')
    )
    return _Written(
        f'import timm\n\nmodel = {usage}.eval()\n{output}',
        lambda: timm.load(net, str(out), name, kwargs),
        out_type,
    )


def _write_hf(
    source: TrainedBackbone, net: nn.Module, tensors: dict[str, Tensor], out: Path
) -> _Written:
    tensors, config, arguments = huggingface.convert(net, tensors)
    if source.normalization is None:
        raise ConfigError(
            f'{source.path} does not say by which mean and std its pictures were '
            'normalised, which Hugging Face wants to know; checkpoints of mmcim do'
        )
    processor = huggingface.preprocessor_config(
        describe_transformer(net), *source.normalization
    )
    out.mkdir()
    _save_safetensors(out / 'model.safetensors', tensors, dict(format='pt'))
    for file, content in (
        ('config.json', config),
        ('preprocessor_config.json', processor),
    ):
        with atomic_write(out / file) as stream:
            stream.write(json.dumps(content, indent=2).encode() + b'\n')
    kind = config['architectures'][0]
    pooler = arguments['add_pooling_layer']
    return _Written(
        f'from transformers import AutoImageProcessor, {kind}\n\n'
        f"model = {kind}.from_pretrained('{out}', add_pooling_layer={pooler})\n"
        f"processor = AutoImageProcessor.from_pretrained('{out}')",
        lambda: huggingface.load(net, str(out), arguments),
        'avg_featmap' if pooler else 'raw',
    )


def _write_torchvision(
    source: TrainedBackbone, net: nn.Module, tensors: dict[str, Tensor], out: Path
) -> _Written:
    name = torchvision.convert(net)
    _save_pth(out, tensors)
    return _Written(
        'import torch\nimport torchvision\n\n'
        f'model = torchvision.models.{name}()\n'
        'model.fc = torch.nn.Identity()\n'
        f"model.load_state_dict(torch.load('{out}', weights_only=True))\n"
        'model.eval()',
        lambda: torchvision.load(str(out), name),
        None,
    )


_WRITERS = dict(
    mmpretrain=_write_mmpretrain,
    mmseg=_write_mmseg,
    timm=_write_timm,
    hf=_write_hf,
    torchvision=_write_torchvision,
)


def _call(config: dict[str, Any], *more: str) -> str:
    lines = [f'{key}={value!r}' for key, value in config.items()]
    return 'dict(\n' + ''.join(f'    {line},\n' for line in (*lines, *more)) + ')'


def _save_safetensors(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]
) -> None:
    # safetensors wants neither views nor tensors that share memory.
    plain = {name: value.clone().contiguous() for name, value in tensors.items()}
    with atomic_write(path) as file:
        file.write(save(plain, metadata))


def _save_pth(path: Path, tensors: dict[str, Tensor]) -> None:
    buffer = io.BytesIO()
    # A view would be stored with all that it is a view of.
    torch.save({name: value.clone() for name, value in tensors.items()}, buffer)
    with atomic_write(path) as file:
        file.write(buffer.getvalue())


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """Give a path of the same name, which takes the place of ``out`` in the end."""
    folder = out.with_name(f'.{out.name}.{os.getpid()}.tmp')
    folder.mkdir(parents=True)
    try:
        yield folder / out.name
        if out.is_dir():
            shutil.rmtree(out)
        os.replace(folder / out.name, out)
    finally:
        shutil.rmtree(folder)
