# Copyright (c) mmcim contributors. All rights reserved.
"""Segmentors through the tools, as real processes: on made-up images, and on CamVid."""

import pickle
import re

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, DefaultScope
from PIL import Image

from mmcim.checkpoints import load_checkpoint

from .toy_run import REPO, TOOLS, run_forked, run_tool

pytestmark = pytest.mark.slow

pytest.importorskip('mmseg')
CLASSES = 11

# The CPU's config of configs/segmentation with a smaller network and smaller images.
CONFIG = """
_base_ = {base!r}
model = dict(
    backbone=dict(
        _delete_=True, type='mmpretrain.VisionTransformer',
        arch=dict(
            embed_dims={width}, num_layers=4, num_heads=2, feedforward_channels={width}),
        img_size=(160, 224), patch_size={patch}, out_type='featmap',
        out_indices=[0, 1, 2, 3]),
    neck=dict(embed_dim={width}),
    decode_head=dict(in_channels=[{width}] * 4, channels={width}),
    auxiliary_head=dict(in_channels={width}, channels={width}))
train_dataloader = dict(num_workers=0, dataset=dict(data_root={root!r}))
val_dataloader = dict(num_workers=0, dataset=dict(data_root={root!r}))
test_dataloader = dict(num_workers=0, dataset=dict(data_root={root!r}))
"""
BASE = str(REPO / 'configs/segmentation/vit-tiny_upernet_1xb8-400i_camvid-240x180.py')
SMALL = """
size = (32, 48)
data_preprocessor = dict(size=size)
model.update(data_preprocessor=dict(size=size))
model['backbone'].update(img_size=size)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(64, 40), ratio_range=(0.8, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='Resize', scale=scale, keep_ratio=True)
                for scale in ((48, 30), (64, 40), (96, 60))
            ],
            [
                dict(type='RandomFlip', prob=0.0, direction='horizontal'),
                dict(type='RandomFlip', prob=1.0, direction='horizontal'),
            ],
            [dict(type='LoadAnnotations')],
            [dict(type='PackSegInputs')],
        ],
    ),
]
train_dataloader['dataset'].update(pipeline=train_pipeline)
val_dataloader['dataset'].update(pipeline=test_pipeline)
test_dataloader['dataset'].update(pipeline=test_pipeline)
train_cfg = dict(max_iters=6, val_interval=3)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=2),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=2)]
default_hooks = dict(
    checkpoint=dict(interval=3, max_keep_ckpts=-1), logger=dict(interval=1))
"""


def write_images(root):
    """Two halves of two classes each, in the colours of the config's palette."""
    palette = Config.fromfile(BASE).metainfo.palette
    random = np.random.default_rng(0)
    for split, count in (('train', 12), ('val', 3), ('test', 4)):
        for folder in (split, f'{split}annot'):
            (root / folder).mkdir(parents=True)
        for i in range(count):
            labels = np.full((40, 64), CLASSES)  # a border of void
            left, right = random.integers(0, CLASSES, 2)
            labels[2:-2, 2:32] = left
            labels[2:-2, 32:-2] = right
            colours = np.asarray([*palette, [0, 0, 0]])
            pixels = colours[labels] + random.integers(-20, 20, (40, 64, 3))
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(root / f'{split}/{i}.png')
            image = Image.fromarray(labels.astype(np.uint8))
            image.save(root / f'{split}annot/{i}.png')


def run(cases, folder):
    # To lay out a config's text for the log takes longer than all else.
    plain = 'import yapf.yapflib.yapf_api as api\n'
    plain += 'api.FormatCode = lambda text, **kwargs: (text, False)'
    return run_forked(cases, cwd=folder, before=dict.fromkeys(cases, plain))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('segmentation')
    write_images(folder / 'data')
    text = CONFIG.format(base=BASE, width=16, patch=8, root=str(folder / 'data'))
    (folder / 'small.py').write_text(text + SMALL)
    return folder


@pytest.fixture(scope='module')
def trained(folder):
    def train(name, *arguments):
        work = ['--work-dir', folder / name]
        return ['train.py', folder / 'small.py', *work, *map(str, arguments)]

    cases = dict(
        whole=train('whole'),
        resumed=train('resumed', '--resume', folder / 'whole/iter_3.pth'),
        amp=train(
            *['amp', '--amp', '--no-validate', '--cfg-options'],
            *['train_cfg.max_iters=1', 'param_scheduler=None'],
        ),
    )
    return run(cases, folder)


@pytest.fixture(scope='module')
def tested(folder, trained):
    assert trained['whole'].code == 0, trained['whole'].output
    checkpoint = folder / 'whole/iter_6.pth'
    state = load_checkpoint(checkpoint)['state_dict']
    backbone = {k: v for k, v in state.items() if k.startswith('backbone.')}
    torch.save({'state_dict': backbone}, folder / 'backbone.pth')

    def test(file, *arguments):
        work = ['--work-dir', folder / 'tested']
        return ['test.py', folder / 'small.py', file, *work, *map(str, arguments)]

    window = 'model.test_cfg.mode=slide model.test_cfg.crop_size=(32,32) '
    window += 'model.test_cfg.stride=(16,16)'
    gone = (
        'model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=gone'
    )
    cases = dict(
        plain=test(
            checkpoint, '--out', folder / 'plain.pkl', '--show-dir', folder / 'shown'
        ),
        tta=test(checkpoint, '--tta', '--out', folder / 'tta.pkl'),
        # The weights from before the training need not be there any more.
        slide=test(
            checkpoint,
            '--out',
            folder / 'slide.pkl',
            '--cfg-options',
            *window.split(),
            *gone.split(),
        ),
        fewer=test(folder / 'backbone.pth', '--tta'),
        no_tta=test(checkpoint, '--tta', '--cfg-options', 'tta_model=None'),
    )
    return run(cases, folder)


def test_resumed_run_is_bit_identical(folder, trained):
    for name in ('whole', 'resumed'):
        assert trained[name].code == 0, trained[name].output
    whole = load_checkpoint(folder / 'whole/iter_6.pth')
    resumed = load_checkpoint(folder / 'resumed/iter_6.pth')
    earlier = load_checkpoint(folder / 'whole/iter_3.pth')['state_dict']
    assert whole['state_dict'].keys() == resumed['state_dict'].keys()
    for name, tensor in whole['state_dict'].items():
        assert tensor.equal(resumed['state_dict'][name]), name
    moved = [n for n, t in whole['state_dict'].items() if not t.equal(earlier[n])]
    assert len(moved) == len(earlier)
    for name, state in whole['optimizer']['state'].items():
        assert state['exp_avg'].equal(resumed['optimizer']['state'][name]['exp_avg'])


def log(work_dir):
    """What is not on the screen."""
    return next(work_dir.glob('*/*.log')).read_text()


def test_training_logs_and_validates(folder, trained):
    output = trained['whole'].output
    assert 'The best checkpoint with' in log(folder / 'whole')
    assert len(re.findall(r'Validation at .*aAcc .*mIoU .*mAcc ', output)) == 2
    # Batch norms in one process on a CPU.
    assert 'decode.loss_ce' in output
    assert 'aux.loss_ce' in output


def test_amp_runs_on_a_cpu(folder, trained):
    result = trained['amp']
    assert result.code == 0, result.output
    assert 'AutoAmpOptimWrapper' in log(folder / 'amp')
    assert 'AutoAmpOptimWrapper' not in log(folder / 'whole')


def predictions(folder, name):
    """File of the test split -> predicted labels, as --out has them."""
    with open(folder / f'{name}.pkl', 'rb') as file:
        samples = pickle.load(file)
    return {
        sample['img_path'].split('/')[-1]: sample['pred_sem_seg']['data'][0].numpy()
        for sample in samples
    }


def scores(folder, name):
    """aAcc, mIoU and mAcc by their definitions, from the files of labels."""
    truth, guess = [], []
    for file, labels in predictions(folder, name).items():
        path = folder / 'data/testannot' / file
        truth.append(np.asarray(Image.open(path)).astype(int).ravel())
        guess.append(labels.astype(int).ravel())
    truth, guess = np.concatenate(truth), np.concatenate(guess)
    guess, truth = guess[truth < CLASSES], truth[truth < CLASSES]
    ious, accuracies = [], []
    for c in range(CLASSES):
        both = ((truth == c) & (guess == c)).sum()
        if ((truth == c) | (guess == c)).any():
            ious.append(both / ((truth == c) | (guess == c)).sum())
        if (truth == c).any():
            accuracies.append(both / (truth == c).sum())
    found = (truth == guess).mean(), np.mean(ious), np.mean(accuracies)
    return dict(zip(('aAcc', 'mIoU', 'mAcc'), (100 * value for value in found)))


def printed(result):
    assert result.code == 0, result.output
    lines = re.findall(r'^(aAcc|mIoU|mAcc): (\d+\.\d{4})$', result.output, re.M)
    assert [name for name, _ in lines] == ['aAcc', 'mIoU', 'mAcc']
    return {name: float(value) for name, value in lines}


@pytest.mark.parametrize('name', ['plain', 'tta', 'slide'])
def test_prints_the_metrics(folder, tested, name):
    expected = scores(folder, name)
    assert len(predictions(folder, name)) == 4
    # mmseg rounds to two digits.
    assert printed(tested[name]) == pytest.approx(expected, abs=0.006)
    assert 0 < expected['mIoU'] < 100


def test_sliding_windows_tta_and_whole_images_differ(folder, tested):
    assert all(tested[name].code == 0 for name in ('plain', 'tta', 'slide'))
    plain, tta, slide = (predictions(folder, n) for n in ('plain', 'tta', 'slide'))
    assert any((plain[file] != tta[file]).any() for file in plain)
    assert any((plain[file] != slide[file]).any() for file in plain)


def test_tta_averages_probabilities(folder, tested):
    """Over three scales, each straight and flipped, at the original size."""
    assert tested['tta'].code == 0, tested['tta'].output
    cfg = Config.fromfile(folder / 'small.py')
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model)
        dataset = cfg.test_dataloader.dataset
        dataset.pipeline = cfg.tta_pipeline
        dataset = DATASETS.build(dataset)
    model.load_state_dict(load_checkpoint(folder / 'whole/iter_6.pth')['state_dict'])
    model.eval()
    found = predictions(folder, 'tta')
    for item in dataset:
        total = 0
        for image, sample in zip(item['inputs'], item['data_samples'], strict=True):
            with torch.no_grad():
                data = dict(inputs=[image], data_samples=[sample])
                (result,) = model.test_step(data)
            assert result.seg_logits.shape == (40, 64)
            total = total + result.seg_logits.data.softmax(0)
        assert len(item['inputs']) == 6
        file = item['data_samples'][0].img_path.split('/')[-1]
        assert (found[file] == total.argmax(0).numpy()).mean() > 0.999


def test_shows_overlays(folder, tested):
    assert tested['plain'].code == 0, tested['plain'].output
    shown = sorted((folder / 'shown').rglob('*.png'))
    assert len(shown) == 4
    palette = np.asarray(Config.fromfile(BASE).metainfo.palette)
    for path in shown:
        file = re.match(r'test_(\d\.png)_\d\.png', path.name)[1]
        image = np.asarray(Image.open(folder / 'data/test' / file))
        labels = predictions(folder, 'plain')[file]
        # The truth left, the prediction right, both over the image; and class names.
        right = np.asarray(Image.open(path))[:, 64:]
        assert right.shape == (40, 64, 3)
        expected = 0.4 * image + 0.6 * palette[labels]
        close = (abs(right - expected) < 2).all(-1)
        assert close.mean() > 0.4
        assert (abs(right - 0.4 * image) < 2).all(-1).mean() < 0.1


@pytest.mark.parametrize(
    ('name', 'parts'),
    [
        ('fewer', ['backbone.pth is not of the EncoderDecoder', 'tensors differ']),
        ('no_tta', ['--tta needs tta_model and tta_pipeline']),
    ],
)
def test_errors_a_user_can_fix(tested, name, parts):
    result = tested[name]
    assert result.code == 2, result.output
    assert 'Traceback' not in result.output
    message = result.output[result.output.index('error: ') :]
    for part in parts:
        assert part in message


def test_two_processes(folder):
    """Batch norms are those of each process on CPUs, where torch has no others."""
    command = [TOOLS / 'dist_train.sh', folder / 'small.py', 2]
    options = ['--cfg-options', 'train_cfg.max_iters=2', 'train_dataloader.batch_size=4']
    options += ['param_scheduler=None']
    result = run_tool(
        *command, '--work-dir', folder / 'two', '--no-validate', *options, cwd=folder
    )
    assert result.code == 0, result.output
    assert '2 process(es) x 4 x 1' in result.output
    assert (folder / 'two/iter_2.pth').is_file()


def test_camvid(tmp_path, camvid):
    """A few iterations on real images are enough to separate sky, road and buildings."""
    text = CONFIG.format(base=BASE, width=32, patch=16, root=str(camvid))
    (tmp_path / 'camvid.py').write_text(text)
    options = ['--cfg-options', 'train_cfg.max_iters=40', 'train_cfg.val_interval=40']
    options += ['default_hooks.checkpoint.interval=40', 'param_scheduler.0.end=5']
    options += ['param_scheduler.1.begin=5']
    indices = 'test_dataloader.dataset.indices=40'
    work = ['--work-dir', tmp_path / 'work']
    test = ['test.py', tmp_path / 'camvid.py', tmp_path / 'work/iter_40.pth', *work]
    cases = dict(
        train=['train.py', tmp_path / 'camvid.py', *work, '--no-validate', *options],
        test=[*test, '--cfg-options', indices],
    )
    result = run(cases, tmp_path)
    assert result['train'].code == 0, result['train'].output
    found = printed(result['test'])
    # Better than the most frequent class everywhere.
    labels = [
        np.asarray(Image.open(path))
        for path in sorted((camvid / 'testannot').iterdir())[:40]
    ]
    counts = np.bincount(np.concatenate(labels, axis=None))[:CLASSES]
    most = 100 * counts.max() / counts.sum()
    assert found['aAcc'] > 1.2 * most
    assert found['mIoU'] > 3 * most / CLASSES
