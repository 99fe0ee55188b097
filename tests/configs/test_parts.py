# Copyright (c) mmcim contributors. All rights reserved.
"""What no other test here builds, of every config; its keys are spelt right."""

from pathlib import Path

import mmseg.datasets
import mmseg.engine  # noqa: F401
import mmseg.evaluation  # noqa: F401
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import (
    DATA_SAMPLERS,
    HOOKS,
    METRICS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    TRANSFORMS,
    DefaultScope,
)
from mmengine.visualization import Visualizer

from ..conftest import is_readable

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
PATHS = [path for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts]
FOLDERS = sorted({path.parent for path in PATHS if is_readable(path)})


def without(cfg, *names):
    return {name: value for name, value in cfg.items() if name not in names}


def as_list(cfg):
    return [cfg] if isinstance(cfg, dict) else cfg or []


def parts(cfg):
    """Give what a config has of registries and dicts, but for models and data sets."""
    for name in ('train', 'val', 'test'):
        loader = cfg.get(f'{name}_dataloader') or {}
        if loader:
            yield DATA_SAMPLERS, loader.sampler
        dataset = loader.get('dataset')
        while dataset is not None:
            yield from ((TRANSFORMS, step) for step in dataset.get('pipeline') or [])
            dataset = dataset.get('dataset')
        yield from ((METRICS, m) for m in as_list(cfg.get(f'{name}_evaluator')))
    yield from ((TRANSFORMS, step) for step in cfg.get('tta_pipeline', []))
    hooks = [*cfg.get('default_hooks', {}).values(), *cfg.get('custom_hooks', [])]
    yield from ((HOOKS, without(hook, 'priority')) for hook in hooks)
    if cfg.get('optim_wrapper'):
        yield OPTIMIZERS, cfg.optim_wrapper.optimizer
        wrapper = without(cfg.optim_wrapper, 'constructor', 'paramwise_cfg', 'optimizer')
        yield OPTIM_WRAPPERS, {'type': 'OptimWrapper', **wrapper}
    yield from ((PARAM_SCHEDULERS, s) for s in as_list(cfg.get('param_scheduler')))


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda p: str(p.relative_to(CONFIGS)))
def test_parts_build(folder):
    Visualizer.get_instance('parts')  # hooks ask for one
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=1.0)
    needed = {
        DATA_SAMPLERS: dict(dataset=range(8), seed=0),
        OPTIMIZERS: dict(params=[parameter], lr=1.0),
        OPTIM_WRAPPERS: dict(optimizer=optimizer),
        PARAM_SCHEDULERS: dict(optimizer=optimizer, epoch_length=10),
    }
    built = set()
    for path in sorted(folder.glob('*.py')):
        cfg = Config.fromfile(path)
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            for registry, part in parts(cfg):
                if registry is TRANSFORMS and 'auto' in part.values():
                    continue  # a size that a backbone's file sets
                if registry is METRICS and 'ann_file' in part:
                    continue  # reads the file
                if repr((cfg.default_scope, part)) in built:
                    continue
                built.add(repr((cfg.default_scope, part)))
                registry.build(dict(part), default_args=needed.get(registry))
    assert built
