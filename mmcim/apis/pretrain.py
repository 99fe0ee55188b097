# Copyright (c) mmcim contributors. All rights reserved.
"""From a folder of images to a backbone that is pre-trained on them, in one call."""

import logging
import os
import re
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from shlex import quote
from tempfile import NamedTemporaryFile
from unittest.mock import patch

import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS

import mmcim_cli

from .. import presets
from ..checkpoints import BackboneFile, adopt_pretrained, load_into
from ..checkpoints.public import PublicWeights, find_weights
from ..checkpoints.record import backbone_path
from ..cli.train import train
from ..datasets import list_images, measure_normalization
from ..datasets.image_folder import is_val
from ..datasets.inspect import refuse_unreadable
from ..engine.work_dir import checkpoints, find_start
from ..models.layers import SlidingWindowNorm
from ..models.tokenizers import explained_by_tokens
from ..paths import configs_dir, write_config
from ..utils import ConfigError, build_runner, load_config
from ..utils.terminal import show
from .features import read_images
from .see import load_tokenizer

_SAMPLE = 128  # images that are looked at before the training
_TOKENIZER_SHARE = 0.15  # of the time or the epochs
_FEWEST = 10  # iterations, so that a warm-up and a decay fit
_TASKS = {'dvae', 'probe', 'vit_finetune', 'resnet_finetune'}
_SUBSETS = {'train', 'val', 'valid', 'validation', 'test'}
_UNITS = dict(s=1, min=60, h=3600)


def pretrain(
    images: str | Path,
    method: str = 'cim_respix',
    out: str | Path = 'work_dirs/images',
    arch: str = 'vit',
    img_size: int | None = None,
    budget: str = '30min',
    epochs: float | None = None,
    weights: str | None = None,
    tokenizer: str | Path | None = None,
    measure: bool = False,
    resume: bool = False,
) -> Path:
    """Pre-train a backbone on the images of a folder.

    What was chosen, and why, is printed and saved with the config, which trains again by
    itself (``mmcim train OUT/ARCH_METHOD/config.py``). All images are used; with two
    class folders or more, a fifth is kept for validation, and a linear probe compares the
    features with those of random weights.

    Args:
        images: A folder, ``<class>/*`` or images in any folders.
        method: 'cim_respix', 'cim_revdet', 'beit', 'conmim', 'corrim', 'mae', 'mocov3' or
            'simmim'.
        out: Folder for the runs. Methods share its tokenizer.
        arch: 'vit' or 'resnet'.
        img_size: Side of the images in pixels, a multiple of the patches; by default it
            follows the images and the device.
        budget: Time for all of the training: a number, and s, min or h.
        epochs: Passes over the images, in place of a budget.
        weights: Public weights to start from: a file, or the name of a timm model. The
            architecture follows.
        tokenizer: Weights of a tokenizer. By default one is trained first.
        measure: Normalise by mean and std of these images in place of ImageNet's.
        resume: Continue after an interruption, with what was chosen before.

    Returns:
        The backbone's weights.

    Raises:
        ConfigError: For everything that the user can fix, before training starts.

    Example:
        What ``mmcim pretrain photos --method mae --budget 10min`` does::

            path = mmcim.pretrain('photos', method='mae', budget='10min')
            backbone = mmcim.apis.load_backbone(path)
    """
    length, start = Length(_seconds(budget), epochs), PublicWeights()
    runs = Path(out).expanduser().absolute()
    if weights:
        start = find_weights(weights, runs)
        arch = start.check(method)
    name = f'{arch}_{method}'
    known = {path.stem for path in (configs_dir() / 'images').glob('*.py')} - _TASKS
    if name not in known:
        names = ', '.join(sorted(known))
        raise ConfigError(f'there is no {name}; arch and method are one of {names}')
    folder = Folder(Path(images), runs, name)
    if checkpoints(str(folder.config.parent)) and not resume:
        raise ConfigError(f'{folder.config.parent}: has a run; --resume or another --out')
    if not (resume and folder.has(folder.config)):
        folder.choose(img_size, start, measure)
        folder.check_start()
        show(folder.preset.used_by(name))
        share = 1.0
        if method in presets.OF_TOKENS:
            share -= folder.choose_tokenizer(tokenizer, length)
        folder.write_tasks()
        folder.write(folder.config, name, length, share if epochs is None else 1.0)
    backbone = backbone_path(_train(folder.config, resume))
    show(f'\nThe backbone: {backbone}')
    folder.compare(backbone)
    folder.show_usage(backbone)
    return backbone


def _seconds(budget: str) -> float:
    found = re.fullmatch(r'(\d+\.?\d*) *(s|min|h)', budget)
    if not found:
        raise ConfigError(f'budget: expected a number, and s, min or h, not {budget!r}')
    return float(found[1]) * _UNITS[found[2]]


def _train(config: Path, resume: bool) -> str:
    """Train by a config in its work directory, unless it is done; the checkpoint."""
    last = config.with_name(f'iter_{Config.fromfile(config).max_iters}.pth')
    if not last.is_file():
        started = find_start(str(config.parent), None, resume)
        command = ['train', str(config), '--work-dir', str(config.parent)]
        train(mmcim_cli.parse([*command, *['--resume'] * bool(started)]))
    return str(last)


@dataclass
class Length:
    """How long to train.

    Attributes:
        seconds: Time for all.
        epochs: Passes over the images, in place of a time.
    """

    seconds: float
    epochs: float | None

    def __post_init__(self) -> None:
        if not (self.seconds > 0 and (self.epochs is None or self.epochs > 0)):
            raise ConfigError('budget and epochs: expected more than 0')

    def iterations(self, cfg: Config, num_images: int, share: float) -> int:
        """Measure the speed of a training, and say how long it will take.

        Args:
            cfg: Of the training.
            num_images: In its data set.
            share: Of the whole length, in (0, 1].
        """
        from ..cli.benchmark import images_per_second

        rate, batch = images_per_second(deepcopy(cfg)), cfg.train_dataloader.batch_size
        seen = self.seconds * rate if self.epochs is None else self.epochs * num_images
        count = max(_FEWEST, round(seen * share / batch))
        show(
            f'{rate:.0f} images/s: {count} iterations, {count * batch / num_images:.1f} '
            f'epochs, in about {timedelta(seconds=round(count * batch / rate))}'
        )
        return count


@dataclass
class Folder:
    """A pre-training on a folder of images, in the making.

    Attributes:
        images: The folder.
        out: Of all runs.
        name: Of the config that is inherited from.
        preset: What has been chosen.
    """

    images: Path
    out: Path
    name: str
    preset: presets.Preset = field(default_factory=presets.Preset)

    def __post_init__(self) -> None:
        self.images = self.images.expanduser().absolute()
        listing = list_images(self.images)
        show(f'{self.images}: {listing}')
        if not listing.files:
            raise ConfigError(f'{self.images} has no images')
        if listing.classes and _SUBSETS.issuperset(listing.classes):
            found = ' and '.join(listing.classes)
            raise ConfigError(f'{self.images} has {found}: give {self.images}/train')
        # A class that is to be told needs images for training and for validation.
        parts = {(file.split(os.sep)[0], is_val(file)) for file in listing.files}
        labelled = len(listing.classes) > 1 and len(parts) == 2 * len(listing.classes)
        self.classes = listing.classes if labelled else []
        names = [f for f in listing.files if not (self.classes and is_val(f))]
        self.files = [str(self.images / name) for name in names]
        self.sample = self.files[:: -(-len(self.files) // _SAMPLE)]
        if self.classes:  # the probe would stop at them, after the training
            refuse_unreadable(str(self.images / file) for file in listing.files)

    @property
    def config(self) -> Path:
        """The config, in the run's work directory."""
        return self.out / self.name / 'config.py'

    def choose(self, img_size: int | None, start: PublicWeights, measure: bool) -> None:
        """Choose all but the tokenizer and the length."""
        gpu = torch.cuda.is_available()
        if not start.path and len(self.files) < presets.FEW_IMAGES:
            show(
                f'Fewer than {presets.FEW_IMAGES:,} images: starting from public weights '
                'gives better features (--from WEIGHTS)'
            )
        size = img_size or presets.choose_size(self.sample, gpu, start.network)
        self.preset = presets.choose(len(self.files), size, gpu, start.network)
        why = 'to start from' if start.path else 'random ones'
        self.preset.choose(why, weights=start.path)
        why, (mean, std) = "the weights' own, or ImageNet's", start.normalization
        if measure:
            why = 'measured on these images'
            mean, std = measure_normalization(self.files, size)
        self.preset.choose(why, normalize=dict(mean=mean, std=std, to_rgb=True))
        folder = dict(type='ImageFolder', data_root=str(self.images))
        training: dict = dict(folder)
        why = 'all, as they have no labels'
        if self.classes:
            training['subset'], why = 'train', 'a fifth is for validation'
        self.preset.choose(
            why,
            images=training,
            val_images=dict(folder, subset='val'),
            num_classes=max(2, len(self.classes)),
            num_workers=min(8, max(1, len(os.sched_getaffinity(0)) - 1)),
        )

    def has(self, config: Path) -> bool:
        """Whether a config has been written.

        Raises:
            ConfigError: If it is for other images.
        """
        if not config.is_file():
            return False
        images = Config.fromfile(config).images.data_root
        if images != str(self.images):
            raise ConfigError(f'{config} is for {images}: give another --out')
        return True

    def check_start(self) -> None:
        """Load the weights to start from, before anything is trained.

        Raises:
            ConfigError: If they do not fit.
        """
        if path := self.preset.values['weights']:
            model = self.load(self.name).model
            part = model.get('enhancer', model)
            net = MODELS.build(dict(part.backbone, _scope_='mmpretrain'))
            load_into(net, BackboneFile.read(path))

    def choose_tokenizer(self, file: str | Path | None, length: Length) -> float:
        """Take a tokenizer, or train one, and see what its tokens can show.

        Returns:
            The share of the time that its training took.
        """
        side, patch = self.preset.values['size'].values()
        config = self.out / f'tokenizer_{side}px_patch{patch}' / 'config.py'
        share = 0.0
        if file is None and not (self.has(config) and checkpoints(str(config.parent))):
            share = _TOKENIZER_SHARE
            self.write(config, 'dvae', length, share)
        file = os.path.abspath(file or _train(config, resume=True))
        tokenizer = load_tokenizer(file)
        chosen = self.preset.choose(
            'a token per patch',
            tokenizer=dict(type=type(tokenizer).__name__, checkpoint=file),
            vocab_size=tokenizer.vocab_size,
            tokenizer_size=side // patch * tokenizer.stride,
        )
        images = read_images(self.sample, (side, side)) / 255
        norms = [SlidingWindowNorm(window) for window in presets.WINDOWS]
        size = self.preset.values['tokenizer_size']
        r2 = explained_by_tokens(tokenizer, images, size, norms)
        explained = dict(zip(presets.WINDOWS, r2))
        text = ', '.join(f'{w} px {r2:.0%}' for w, r2 in explained.items())
        why = f'tokens explain of pixels that are normalised in windows of {text}'
        show(chosen + self.preset.choose(why, window=presets.choose_window(explained)))
        return share

    def load(self, name: str) -> Config:
        """Load a config of ``configs/images`` with what has been chosen."""
        with NamedTemporaryFile('w', suffix='.py') as file:
            file.write(str(self.preset))
            file.flush()
            level = logging.root.manager.disable
            logging.disable()  # mmengine would log the variable
            try:
                with patch.dict(os.environ, MMCIM_PRESET=file.name):
                    return load_config(configs_dir() / f'images/{name}.py')
            finally:
                logging.disable(level)

    def write(self, path: Path, name: str, length: Length, share: float) -> None:
        """Settle the length of a training, show its settings, and write its config."""
        show(f'\n{name}: {path}')
        count = length.iterations(self.load(name), len(self.files), share)
        self.preset.choose('the stated time or epochs', max_iters=count)
        lines = self.preset.used_by(name).splitlines()
        comment = ''.join(f'{x}\n' if x[0] == '#' else f'#     {x}\n' for x in lines)
        write_config(self.load(name), path, path.parent, comment)

    def write_tasks(self) -> None:
        """Write the configs of what is to be done with the backbone beside the run's."""
        if self.classes:
            finetune = f'{self.name.split("_")[0]}_finetune'
            for task, name in dict(probe='probe', finetune=finetune).items():
                path = self.config.with_name(f'{task}.py')
                write_config(self.load(name), path, path.with_suffix(''))

    def compare(self, weights: Path) -> None:
        """Compare by a linear probe with what it started from, if there are labels."""
        if not self.classes:
            return
        files = {'pre-trained': str(weights)}
        if start := Config.fromfile(self.config).load_from:
            files['public'] = start
        top1 = {}
        for title, file in {**files, 'random': None}.items():
            # A random ViT knows where its patches are, as before its pre-training.
            own = file is None and self.name.startswith('vit')
            pretrained = None if own else str(weights)
            cfg = load_config(self.config.with_name('probe.py'), pretrained=pretrained)
            adopt_pretrained(cfg)
            init = file and dict(type='Pretrained', checkpoint=file)
            cfg.model.backbone.init_cfg = init
            top1[title] = build_runner(cfg, 'test').test()['linear/top1']
            show(f'Linear probe of {title} weights: {top1[title]:.1f} % top-1')
        if top1.pop('pre-trained') <= max(top1.values()):
            advice = '' if start else ', or from public weights (--from WEIGHTS)'
            show(f'It has not helped yet: train longer{advice}')

    def show_usage(self, weights: Path) -> None:
        """Print a command for each thing that people do with a backbone."""
        finetune = self.config.with_name('finetune.py') if self.classes else 'CONFIG'
        words = (self.images, weights, finetune, weights.parent)
        images, file, finetune, folder = (quote(str(word)) for word in words)
        show(
            '\nNext:\n'
            f'  mmcim embed {images} --backbone {file} --out {folder}/features.npz\n'
            f'  mmcim see pca {file} {images} --out {folder}/pca.png\n'
            f'  mmcim train {finetune} --pretrained {file}  # fine-tune\n'
            f'  mmcim train CONFIG --pretrained {file}  # segment: docs/own-masks.md\n'
        )
