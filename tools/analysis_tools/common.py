# Copyright (c) mmcim contributors. All rights reserved.
"""What the tools of this folder share: models with random tokenizers, and tables."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmpretrain.registry import MODELS
from safetensors.torch import save_file
from torch import nn

from mmcim.models.tokenizers.dalle import _Decoder, _Encoder
from mmcim.utils import ConfigError


def random_tokenizer(cfg: dict, folder: str) -> str:
    """Write a tokenizer of full size with random weights.

    Args:
        cfg (dict): ``model.tokenizer`` of a config.
        folder (str): Where to write.

    Returns:
        str: The path for ``model.tokenizer.checkpoint``.

    Raises:
        ConfigError: If it is neither OpenAI's dVAE nor one of this project.
    """
    if cfg['type'] == 'DALLETokenizer':
        # The sizes of OpenAI's networks.
        net = nn.ModuleDict(
            dict(
                encoder=_Encoder(n_hid=256, n_blocks=2, vocab_size=8192),
                decoder=_Decoder(n_hid=256, n_blocks=2, vocab_size=8192, n_init=128),
            )
        )
        for parameter in net.parameters():
            if parameter.ndim == 1:
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    elif cfg['type'] == 'DiscreteVAE':
        sizes = {k: v for k, v in cfg.items() if k not in ('type', 'checkpoint')}
        net = MODELS.build(dict(type='DiscreteVAENet', **sizes))
    else:
        raise ConfigError(
            'random weights are made for a DALLETokenizer or a DiscreteVAE; for a '
            f'{cfg["type"]} give the weights by model.tokenizer.checkpoint'
        )
    path = Path(folder) / 'tokenizer.safetensors'
    save_file(net.state_dict(), path)
    return str(path)


def build(cfg: Config, random: bool) -> nn.Module:
    """Build and initialise a config's model.

    Args:
        cfg (Config): The complete config.
        random (bool): Whether its tokenizer, if it has one, gets random weights of full
            size instead of those of its file.

    Returns:
        nn.Module: The model, in training mode.

    Raises:
        ConfigError: For what models say about arguments that do not fit and files that
            are missing.
    """
    model = {'data_preprocessor': cfg.get('data_preprocessor'), **cfg.model}
    with tempfile.TemporaryDirectory() as folder:
        if random and model.get('tokenizer'):
            checkpoint = random_tokenizer(model['tokenizer'], folder)
            model['tokenizer'] = {**model['tokenizer'], 'checkpoint': checkpoint}
        try:
            model = MODELS.build(model)
        except (ValueError, FileNotFoundError) as error:
            raise ConfigError(str(error)) from error
    logger = MMLogger.get_current_instance()
    logger.setLevel('WARNING')  # mmengine would log how it initialises each parameter
    model.init_weights()
    logger.setLevel('INFO')
    return model.train()


def print_table(rows: Sequence[Sequence[object]]) -> None:
    """Print rows of cells, the first left- and the others right-aligned."""
    rows = [[str(cell) for cell in row] for row in rows]
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    for name, *cells in rows:
        aligned = [cell.rjust(width) for cell, width in zip(cells, others, strict=True)]
        print('  '.join([name.ljust(first), *aligned]))
