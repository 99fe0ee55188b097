# Copyright (c) mmcim contributors. All rights reserved.
"""CIM through the tools, as real processes: bad input, resume, images."""

import re

import pytest
import torch
from mmpretrain.registry import MODELS
from safetensors.torch import save_file

from mmcim.checkpoints import load_checkpoint

from .toy_run import REPO, run_forked

pytestmark = pytest.mark.slow

RESPIX = REPO / 'configs/quickstart/cim_respix.py'
VIT_B = REPO / 'configs/cim/vit-b_8xb256-300e.py'
# Without a tokenizer, whose missing file would be found before the data.
MAE = REPO / 'configs/baselines/vit-s_mae_1xb128-300e_imagenette-128.py'
SIZES = dict(stride=4, vocab_size=32, width=64, depth=1, code_dims=64)
SHORT = [
    'train_cfg.max_iters=4',
    'param_scheduler=None',
    'train_dataloader.batch_size=8',
    'default_hooks.checkpoint.interval=2',
    'default_hooks.checkpoint.max_keep_ckpts=-1',
    'default_hooks.logger.interval=2',
]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Two tokenizers, which differ."""
    folder = tmp_path_factory.mktemp('cim')
    for name in ('first', 'second'):
        net = MODELS.build(dict(type='DiscreteVAENet', **SIZES))
        save_file(net.state_dict(), folder / f'{name}.safetensors')
    return folder


def arguments(folder, *options, tokenizer='first', config=RESPIX, tool_options=()):
    checkpoint = folder / f'{tokenizer}.safetensors'
    return [
        'train.py',
        config,
        *tool_options,
        '--cfg-options',
        f'model.tokenizer.checkpoint={checkpoint}',
        *SHORT,
        *options,
    ]


@pytest.fixture(scope='module')
def runs(folder, toy):
    def work(name):
        return ['--work-dir', folder / name]

    resume = [*work('resumed'), '--resume', folder / 'whole/iter_2.pth']
    other = [*work('other'), '--resume', folder / 'whole/iter_2.pth']
    images = f'train_dataloader.dataset.data_root={toy.data}'
    cases = {
        'whole': arguments(folder, tool_options=work('whole')),
        'resumed': arguments(folder, tool_options=resume),
        'other tokenizer': arguments(folder, tokenizer='second', tool_options=other),
        'vocabulary': arguments(folder, 'model.generator.head.vocab_size=64'),
        'grid': arguments(folder, 'data_preprocessor.tokenizer_size=16'),
        'masks': arguments(
            folder,
            'model.masking.type=BlockMasking',
            'model.masking.num_masked=75',
            'model.masking.num_patches=36',
        ),
        'stride': arguments(folder, 'model.enhancer.neck.encoder_stride=8'),
        'misspelt': arguments(folder, 'model.generator.temprature=2'),
        'no tokenizer': arguments(folder, tokenizer='missing'),
        'no data': ['train.py', MAE],
        'no dalle': ['train.py', VIT_B, '--cfg-options', images],
        'test': [
            'test.py',
            RESPIX,
            folder / 'whole/iter_4.pth',
            '--cfg-options',
            f'model.tokenizer.checkpoint={folder}/first.safetensors',
        ],
        'test again': [
            'test.py',
            RESPIX,
            folder / 'whole/iter_4.pth',
            '--cfg-options',
            f'model.tokenizer.checkpoint={folder}/first.safetensors',
        ],
        'train tokenizer': [
            'train.py',
            REPO / 'configs/quickstart/tokenizer.py',
            '--work-dir',
            folder / 'tokenizer',
            '--cfg-options',
            *SHORT,
        ],
        'test tokenizer': [
            'test.py',
            REPO / 'configs/quickstart/tokenizer.py',
            folder / 'tokenizer/iter_4.pth',
        ],
        'vis': [
            'visualization/vis_cim.py',
            RESPIX,
            folder / 'whole/iter_4.pth',
            '--out',
            folder / 'grid.png',
            '--cfg-options',
            f'model.tokenizer.checkpoint={folder}/first.safetensors',
        ],
        'vis of a classifier': [
            'visualization/vis_cim.py',
            REPO / 'configs/quickstart/finetune.py',
            folder / 'whole/iter_4.pth',
        ],
    }
    return run_forked(cases, folder)


BAD = {
    'vocabulary': ['model.generator.head.vocab_size=32'],
    'grid': ['(6, 6)', '(16, 16)', 'model.data_preprocessor.tokenizer_size=(24, 24)'],
    'masks': ['num_masked=75', '6 x 6'],
    'misspelt': ['model.generator.temprature', 'temperature'],
    'no tokenizer': ['missing.safetensors'],
    'no data': ['train_dataloader.dataset', 'data/imagenet'],
    'no dalle': ['weights/dalle_dvae.safetensors', 'mmcim convert-dalle', 'encoder.pkl'],
    'other tokenizer': [
        'tokenizers.tokenizer.sha256 is',
        'first.safetensors',
        'second.safetensors',
    ],
    'vis of a classifier': ['expected BaseSelfSupervisor, got ImageClassifier'],
}


@pytest.mark.parametrize('name', BAD)
def test_invalid_input_is_a_one_line_error(runs, name):
    assert runs[name].code == 2, runs[name].output
    assert 'Traceback' not in runs[name].output
    for words in BAD[name]:
        assert words in runs[name].output


def test_first_step_names_mismatched_shapes(runs):
    assert runs['stride'].code != 0
    for words in ('(3, 48, 48)', '(3, 24, 24)', 'encoder_stride'):
        assert words in runs['stride'].output


def test_training_logs_metrics(runs):
    assert runs['whole'].code == 0, runs['whole'].output
    assert 'Effective batch: 8' in runs['whole'].output
    scalars = ('loss_gen', 'token_acc', 'replaced', 'loss_pix')
    assert all(name in runs['whole'].output for name in scalars)


def test_resumed_run_is_bit_identical(runs, folder):
    assert runs['resumed'].code == 0, runs['resumed'].output
    whole = load_checkpoint(folder / 'whole/iter_4.pth')['state_dict']
    resumed = load_checkpoint(folder / 'resumed/iter_4.pth')['state_dict']
    early = load_checkpoint(folder / 'whole/iter_2.pth')['state_dict']
    assert all(value.equal(resumed[key]) for key, value in whole.items())
    assert any(not value.equal(early[key]) for key, value in whole.items())


def test_checkpoint_names_tokenizer_without_its_weights(runs, folder):
    checkpoint = load_checkpoint(folder / 'whole/iter_4.pth')
    assert not any('tokenizer' in key for key in checkpoint['state_dict'])
    identity = checkpoint['meta']['run']['tokenizers']['tokenizer']
    assert identity['type'] == 'DiscreteVAE'
    assert identity['source'].endswith('first.safetensors')
    assert len(identity['sha256']) == 64
    stored = sum(torch.as_tensor(v).numel() for v in checkpoint['state_dict'].values())
    model = load_checkpoint(folder / 'whole/iter_2.pth')['optimizer']['state']
    # the optimizer has moments for exactly the stored parameters, minus index buffers
    moments = sum(state['exp_avg'].numel() for state in model.values())
    assert 0 < stored - moments < stored / 10


def metrics(result):
    assert result.code == 0, result.output
    return dict(re.findall(r'^(\w+): ([\d.]+)$', result.output, re.MULTILINE))


def test_pretraining_is_tested_on_its_losses(runs):
    found = metrics(runs['test'])
    assert set(found) == {'loss_gen', 'token_acc', 'replaced', 'loss_pix'}
    assert found == metrics(runs['test again'])


def test_tokenizer_is_tested_on_reconstruction(runs):
    found = metrics(runs['test tokenizer'])
    assert {'loss_recon', 'psnr', 'codes_used'} <= set(found)
    assert 1 <= float(found['codes_used']) <= 32


def test_images_are_drawn(runs, folder):
    assert runs['vis'].code == 0, runs['vis'].output
    assert (folder / 'grid.png').stat().st_size > 1000
