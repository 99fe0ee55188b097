# Copyright (c) mmcim contributors. All rights reserved.
"""Draw what a trained network has learned, on your own images.

attention   how much of a layer's attention each patch gets, per head: that of the class
            token, or in a network without one the mean of all patches; --layer counts
            from 0, and from -1, the last
pca         patches, coloured by the first three principal components of the features of
            all patches of all images
neighbours  images beside the -k (5) most similar ones among IMAGES, by the cosine of
            their features
tsne        t-SNE of the features of images, coloured by class folder
codes       the -k (10) most frequent codes of a tokenizer, each decoded, and patches that
            it encodes

FILE is an exported backbone or the checkpoint beside it; of codes, a tokenizer's. IMAGES
are files, or a folder, which is searched recursively. At most --num of them are taken,
evenly spaced: by default 6 (neighbours are looked for among all), 2000 for tsne, and 200
for codes.

Example: mmcim see attention epoch_300_backbone.safetensors photos --out attention.png
"""

import os
from argparse import Namespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from mmengine.device import get_device
from torch import Tensor, nn

from .. import apis
from ..apis.features import image_list, input_size, read_images
from ..utils import ConfigError
from ..visualization import draw_panels, draw_points, save_image

_SIDE = 128  # pixels of an image among many


def run(args: Namespace) -> None:
    """Draw.

    Args:
        args: The command line.

    Raises:
        ConfigError: If a file or an option does not fit.
    """
    for option, tasks in {'--layer': 'attention', '-k': 'neighbours, codes'}.items():
        if getattr(args, option.strip('-')) is not None and args.what not in tasks:
            raise ConfigError(f'{option} is an option of {tasks}, not of {args.what}')
    load: Any = apis.load_tokenizer if args.what == 'codes' else apis.load_backbone
    network = load(args.file).to(get_device())
    paths: list[Any] = []
    for path in args.images:
        paths += [path] if os.path.isfile(path) else image_list(path)
    save_image(TASKS[args.what](network, paths, args), args.out)
    print(f'wrote {args.out}')


def draw_attention(backbone: nn.Module, paths: list[str], args: Namespace) -> np.ndarray:
    """Draw the attention of each head, as a fraction of its largest value."""
    paths, layer = _spread(paths, args.num or 6), -1 if args.layer is None else args.layer
    maps = apis.attention_maps(backbone, paths, layer, img_size=args.img_size)
    maps = torch.cat([maps.mean(dim=1, keepdim=True), maps], dim=1)
    maps = maps / maps.amax(dim=(2, 3), keepdim=True)  # (N, 1 + heads, h, w)
    colours = torch.from_numpy(colormaps['inferno'](maps.numpy())[..., :3]).unbind(1)
    panels = {'image': _pixels(backbone, paths, args)}
    for i, part in enumerate(colours):
        panels[f'head {i}' if i else 'mean of heads'] = _enlarge(part, panels['image'])
    which = 'the last layer' if layer == -1 else f'layer {layer}'
    title = f'attention of {which}, black: 0, yellow: its maximum; {_name(args)}'
    return draw_panels(panels, title, max_side=_SIDE)


def draw_pca(backbone: nn.Module, paths: list[str], args: Namespace) -> np.ndarray:
    """Draw the principal components of patches as colours."""
    paths = _spread(paths, args.num or 6)
    images = _pixels(backbone, paths, args)
    colours = apis.pca_colours(backbone, paths, img_size=args.img_size)
    panels = {'image': images, 'components 1-3\nas RGB': _enlarge(colours, images)}
    return draw_panels(panels, f'principal components; {_name(args)}', max_side=_SIDE)


def draw_neighbours(backbone: nn.Module, paths: list[str], args: Namespace) -> np.ndarray:
    """Draw images beside their nearest neighbours."""
    queries = _spread(range(len(paths)), args.num or 6)
    features = apis.extract_features(backbone, paths, img_size=args.img_size)
    cosines, indices = apis.nearest_neighbours(features, args.k or 5, queries)
    panels = {'image': _pixels(backbone, [paths[i] for i in queries], args)}
    captions = {'image': [paths[i] for i in queries]}
    for rank, (column, values) in enumerate(zip(indices.T.tolist(), cosines.T), start=1):
        panels[f'{rank}'] = _pixels(backbone, [paths[i] for i in column], args)
        captions[f'{rank}'] = [f'{paths[i]}\n{v:.4f}' for i, v in zip(column, values)]
    title = f'most similar of {len(paths):,} images, with cosine; {_name(args)}'
    return draw_panels(panels, title, captions=captions, max_side=_SIDE)


def draw_tsne(backbone: nn.Module, paths: list[str], args: Namespace) -> np.ndarray:
    """Draw a point per image."""
    paths = _spread(paths, args.num or 2000)
    features = apis.extract_features(backbone, paths, img_size=args.img_size)
    classes = [os.path.basename(os.path.dirname(path)) for path in paths]
    title = f't-SNE of {len(paths):,} images; {_name(args)}'
    return draw_points(apis.tsne(features).numpy(), classes, title)


def draw_codes(tokenizer: Any, paths: list[str], args: Namespace) -> np.ndarray:
    """Draw a row for each of the most frequent codes."""
    paths, size = _spread(paths, args.num or 200), args.img_size or 224
    use = apis.images_per_code(tokenizer, paths, args.k or 10, img_size=size)
    patches = use.patches.nan_to_num(1.0).unbind(1)  # white where there are fewer
    panels = {f'patch {i}': patch for i, patch in enumerate(patches, start=1)}
    fractions = use.counts / use.counts.sum()
    rows = [
        f'code {i}: {use.counts[i]:,} ({fractions[i]:.1%})' for i in use.codes.tolist()
    ]
    title = f'{(use.counts > 0).sum():,} of {len(fractions):,} codes in use, entropy '
    title += f'{use.entropy:.2f} bits, perplexity {2**use.entropy:.1f}\n'
    title += f'{len(paths):,} images at {size} px; {_name(args)}'
    return draw_panels({'decoded': use.decoded, **panels}, title, rows=rows, min_side=60)


def _name(args: Namespace) -> str:
    return os.path.basename(args.file)


def _spread(items: Any, num: int) -> list:
    """Choose so many, evenly spaced."""
    chosen = torch.linspace(0, len(items) - 1, min(num, len(items)))
    return [items[i] for i in chosen.long()]


def _pixels(backbone: nn.Module, paths: list[str], args: Namespace) -> Tensor:
    """Images as the backbone sees them, (B, 3, H, W) in [0, 1]."""
    return read_images(paths, input_size(backbone, args.img_size)) / 255


def _enlarge(colours: Tensor, images: Tensor) -> Tensor:
    """Colours of patches, (B, h, w, 3), as pixels of images, (B, 3, H, W)."""
    return F.interpolate(colours.permute(0, 3, 1, 2).float(), images.shape[2:])


_ALL = draw_attention, draw_pca, draw_neighbours, draw_tsne, draw_codes
TASKS: dict[str, Any] = {draw.__name__.removeprefix('draw_'): draw for draw in _ALL}
