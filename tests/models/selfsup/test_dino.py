# Copyright (c) mmcim contributors. All rights reserved.
"""DINO against its equations, crop by crop and step by step."""

import math
import uuid

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

from mmcim.checkpoints import BackboneFile, backbone_path, load_checkpoint
from mmcim.models import DINOHead, DINONeck
from mmcim.utils import build_runner, load_config

from .conftest import vit
from .two_processes import assert_two_match_one

OUTPUTS = 24


def dino(**kwargs):
    """32 px, 4 x 4 patches of 8 px; local crops of 16 px."""
    sizes = dict(hid_channels=24, bottleneck_channels=16, out_channels=OUTPUTS)
    config = dict(
        type='DINO',
        backbone=vit('VisionTransformer'),
        neck=dict(type='DINONeck', in_channels=32, **sizes),
        head=dict(type='DINOHead', out_channels=OUTPUTS),
        data_preprocessor=dict(num_per_crop=2, local_size=16),
    )
    return config | kwargs


def build(**kwargs):
    torch.manual_seed(1)
    model = MODELS.build(dino(**kwargs))
    model.init_weights()
    # A student unlike its teacher, whose outputs have a centre.
    for param in model.parameters():
        torch.nn.init.normal_(param, std=0.3)
    return model


def batch_inputs(batch=4):
    generator = torch.Generator().manual_seed(0)

    def images(*shape):
        return torch.randn(batch, *shape, generator=generator)

    return dict(
        images=images(3, 32, 32),
        second_crops=images(3, 32, 32),
        local_crops=images(3, 3, 16, 16),
    )


def plain_loss(student, teacher, center, student_temperature, teacher_temperature):
    """Image by image and pair by pair; lists of (K,) per crop in lists per image."""
    losses = []
    for own, others in zip(student, teacher, strict=True):
        pairs = []
        for g in range(len(others)):
            scores = torch.exp((others[g] - center) / teacher_temperature)
            target = scores / scores.sum()
            for v in range(len(own)):
                if v == g:
                    continue
                exps = torch.exp(own[v] / student_temperature)
                log_probs = torch.log(exps / exps.sum())
                pairs.append(-sum(target[k] * log_probs[k] for k in range(len(target))))
        losses.append(sum(pairs) / len(pairs))
    return sum(losses) / len(losses)


class TestHead:
    @staticmethod
    def outputs():
        torch.manual_seed(0)
        return torch.randn(3, 5, OUTPUTS), torch.randn(3, 2, OUTPUTS)

    def test_loss_and_gradients_match_formula(self):
        student, teacher = self.outputs()
        head = DINOHead(OUTPUTS, 0.2, 0.5)
        head.center.copy_(torch.randn(OUTPUTS))
        center = head.center.double()
        ours, plain = student.clone().requires_grad_(), student.double().requires_grad_()
        loss = head.loss(ours, teacher)['loss']
        expected = plain_loss(plain, teacher.double(), center, 0.2, 0.5)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
        loss.backward()
        expected.backward()
        torch.testing.assert_close(ours.grad.double(), plain.grad, atol=1e-6, rtol=1e-4)

    def test_center_is_a_moving_average_that_later_losses_see(self):
        student, teacher = self.outputs()
        head, center = DINOHead(OUTPUTS, center_momentum=0.7), torch.zeros(OUTPUTS)
        for _ in range(3):
            loss = head.loss(student, teacher)['loss']
            expected = plain_loss(
                student.double(), teacher.double(), center.double(), 0.1, 0.04
            )
            assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
            mean = sum(t for image in teacher for t in image) / 6
            center = 0.7 * center + 0.3 * mean
            torch.testing.assert_close(head.center, center)

    def test_evaluation_leaves_the_center(self):
        head = DINOHead(OUTPUTS).eval()
        head.loss(*self.outputs())
        assert not head.center.any()

    def test_autocast_changes_nothing(self):
        expected = DINOHead(OUTPUTS).loss(*self.outputs())['loss']
        with torch.autocast('cpu', torch.bfloat16):
            assert DINOHead(OUTPUTS).loss(*self.outputs())['loss'].equal(expected)


class TestNeck:
    def test_outputs_are_cosines_times_lengths(self):
        torch.manual_seed(0)
        neck = DINONeck(8, 12, 6, OUTPUTS, norm_last_layer=False)
        neck.init_weights()
        lengths, directions = neck.last_layer.parameters()
        assert lengths.eq(1).all()
        torch.nn.init.uniform_(lengths, 0.5, 2.0)
        features = torch.randn(5, 8)
        first, second, third = (layer for layer in neck.mlp[::2])
        gelu = torch.nn.functional.gelu
        x = third(gelu(second(gelu(first(features)))))
        (got,) = neck((features,))
        for i in range(5):
            for k in range(OUTPUTS):
                cosine = torch.cosine_similarity(x[i], directions[k], dim=0)
                assert got[i, k].item() == pytest.approx(
                    (lengths[k] * cosine).item(), abs=1e-5
                )

    def test_batch_norm_of_hidden_layers(self):
        """In training, of all rows; the teacher has it too."""
        torch.manual_seed(0)
        neck = DINONeck(8, 12, 6, OUTPUTS, norm_cfg=dict(type='BN1d'))
        x = features = torch.randn(5, 8)
        for layer in (neck.mlp[0], neck.mlp[3]):
            x = layer(x)
            spread = (x - x.mean(0)).square().mean(0) + 1e-5
            x = torch.nn.functional.gelu((x - x.mean(0)) / spread.sqrt())
        expected = neck.last_layer(torch.nn.functional.normalize(neck.mlp[6](x)))
        torch.testing.assert_close(neck((features,))[0], expected)

    @pytest.mark.parametrize('fixed', [True, False])
    def test_norm_last_layer_fixes_the_lengths(self, fixed):
        neck = DINONeck(8, 12, 6, OUTPUTS, norm_last_layer=fixed)
        (out,) = neck((torch.randn(5, 8),))
        out.square().sum().backward()
        lengths, directions = neck.last_layer.parameters()
        assert (lengths.grad is None) == fixed
        assert directions.grad.any()

    def test_initial_weights(self):
        neck = DINONeck(64, 128, 32, OUTPUTS)
        neck.init_weights()
        for layer in neck.mlp[::2]:
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
            assert not layer.bias.any()

    def test_float32_in_autocast(self):
        neck = DINONeck(8, 12, 6, OUTPUTS)
        with torch.autocast('cpu', torch.bfloat16):
            assert neck((torch.randn(5, 8),))[0].dtype == torch.float32


class TestModel:
    def test_teacher_sees_global_crops_and_student_all(self):
        """Each crop of each image on its own."""
        model, inputs = build(), batch_inputs(2)
        model.head.center.copy_(torch.linspace(-1, 1, OUTPUTS))
        center = model.head.center.clone().double()
        loss = model.loss(inputs)['loss']
        student, teacher = [], []
        for i in range(2):
            both = [inputs['images'][i], inputs['second_crops'][i]]
            crops = [*both, *inputs['local_crops'][i]]
            student.append(
                [model.neck(model.backbone(c[None]))[0][0].double() for c in crops]
            )
            copy = model.momentum_encoder
            teacher.append(
                [copy.neck(copy.backbone(c[None]))[0][0].double() for c in both]
            )
        expected = plain_loss(student, teacher, center, 0.1, 0.04)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-4)

    def test_batch_norm_is_over_all_crops(self):
        """Of both sizes in the student, of the global crops in the teacher."""
        neck = {**dino()['neck'], 'norm_cfg': dict(type='BN1d')}
        model, inputs = build(neck=neck), batch_inputs(3)
        with torch.no_grad():
            model.loss(inputs)
            for modules, crops in (
                (model, [*inputs['local_crops'].unbind(1)]),
                (model.momentum_encoder, []),
            ):
                both = [inputs['images'], inputs['second_crops']]
                features = torch.cat([modules.backbone(x)[0] for x in (*both, *crops)])
                mean = modules.neck.mlp[0](features).mean(0)
                torch.testing.assert_close(modules.neck.mlp[1].running_mean, mean / 10)

    def test_gradients_reach_the_student_alone(self):
        model = build()
        model.loss(batch_inputs())['loss'].backward()
        for name, param in model.named_parameters():
            learns = not name.startswith('momentum_encoder.') and 'original0' not in name
            assert (param.grad is not None) == learns, name

    def test_drop_path_is_the_students_alone(self):
        model = build(backbone=vit('VisionTransformer', drop_path_rate=0.5))
        for mode in (True, False, True):
            model.train(mode)
            assert model.backbone.layers[1].training == mode
            teacher = model.momentum_encoder.backbone
            assert not any(m.training for m in teacher.modules())
        images = batch_inputs()['images']
        (first,), (second,) = (model.momentum_encoder.backbone(images) for _ in range(2))
        assert first.equal(second)
        (first,), (second,) = (model.backbone(images) for _ in range(2))
        assert not first.equal(second)

    def test_features_come_from_the_teacher(self):
        model, images = build().eval(), batch_inputs()['images']
        expected = model.momentum_encoder.backbone(images)[0]
        assert model.extract_feat(images)[0].equal(expected)

    def test_teacher_starts_as_copy(self):
        model = MODELS.build(dino())
        model.init_weights()
        state = model.state_dict()
        for name, value in state.items():
            if name.startswith(('backbone.', 'neck.')):
                assert value.equal(state[f'momentum_encoder.{name}']), name


CONFIG = dict(data_preprocessor=dict(type='BaseDataPreprocessor'))
OPTIM = dict(
    type='AutoAmpOptimWrapper',
    precision='float32',
    constructor='NetworkwiseOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9),
    clip_grad=dict(max_norm=0.1),
    clip_per_parameter=True,
)


def network():
    return build(**CONFIG)


def steps(model, part, num=3):
    plain = getattr(model, 'module', model)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        optim = build_optim_wrapper(plain, OPTIM)
    inputs = {name: images[part] for name, images in batch_inputs().items()}
    for step in range(num):
        model.train_step(dict(inputs=inputs), optim)
        plain.momentum_encoder.update(plain, step, num_steps=10)


def test_two_processes_match_one(tmp_path):
    """Gradients, clipping, teacher and the centre over all images."""
    start, end = assert_two_match_one(network, steps, tmp_path)
    assert not start['head.center'].any() and end['head.center'].abs().max() > 0.05
    moved = {key for key, value in end.items() if not value.equal(start[key])}
    learnt = {key for key, param in network().named_parameters() if param.requires_grad}
    assert learnt <= moved


class Recorder(Hook):
    """What each iteration had."""

    priority = 'LOWEST'

    def __init__(self):
        self.temperature, self.decay, self.last_layer = [], [], []

    def before_train(self, runner):
        self.keep(runner)

    def after_train_iter(self, runner, *args, **kwargs):
        self.keep(runner)
        self.temperature.append(runner.model.head.teacher_temperature.item())

    def before_train_iter(self, runner, *args, **kwargs):
        groups = runner.optim_wrapper.optimizer.param_groups
        self.decay.append(sorted({group['weight_decay'] for group in groups}))

    def keep(self, runner):
        # original1: the directions
        weight = runner.model.neck.last_layer.parametrizations.weight.original1
        self.last_layer.append(weight.detach().clone())


def train(repo, work_dir, checkpoint=None):
    """Six iterations on digits, the last layer frozen in two, or the rest of them."""
    cosine = dict(param_name='weight_decay', eta_min_ratio=10.0, by_epoch=False)
    options = {
        'train_cfg.max_iters': 6,
        'param_scheduler': [dict(type='CosineAnnealingParamScheduler', **cosine)],
        'custom_hooks': [dict(type='DINOHook', warm_up=4, freeze=2, by_epoch=False)],
        'train_dataloader.batch_size': 8,
        'default_hooks.checkpoint.interval': 1,
        'default_hooks.checkpoint.max_keep_ckpts': -1,
        'log_level': 'WARNING',
        'experiment_name': str(uuid.uuid4()),
    }
    cfg = load_config(repo / 'configs/quickstart/dino.py', options, str(work_dir))
    cfg.resume, cfg.load_from = checkpoint is not None, checkpoint
    runner, recorder = build_runner(cfg), Recorder()
    runner.register_hook(recorder)
    runner.train()
    return recorder


@pytest.fixture(scope='module')
def run(repo, tmp_path_factory):
    folder = tmp_path_factory.mktemp('run')
    return folder, train(repo, folder)


def test_teacher_temperature_rises_linearly(run):
    expected = [0.04, 0.05, 0.06, 0.07, 0.07, 0.07]
    assert run[1].temperature == pytest.approx(expected)


def test_weight_decay_rises_by_a_cosine(run):
    """From 0.04 to 0.4, but for groups of zero."""
    for step, (none, decay) in enumerate(run[1].decay):
        assert none == 0
        rest = (1 + math.cos(math.pi * step / 6)) / 2
        assert decay == pytest.approx(0.4 - 0.36 * rest)


def test_last_layer_is_frozen_at_first(run):
    folder, recorder = run
    moves = [not a.equal(b) for a, b in zip(recorder.last_layer, recorder.last_layer[1:])]
    assert moves == [False, False, True, True, True, True]
    frozen, after = (
        load_checkpoint(folder / f'iter_{i}.pth')['optimizer']['state'] for i in (2, 3)
    )
    (index,) = after.keys() - frozen.keys()
    assert after[index]['step'] == 1


@pytest.mark.parametrize('middle', [1, 3])
def test_resumed_run_is_bit_identical(run, repo, tmp_path, middle):
    folder, whole = run
    resumed = train(repo, tmp_path, str(folder / f'iter_{middle}.pth'))
    assert resumed.temperature == whole.temperature[middle:]
    assert resumed.decay == whole.decay[middle:]
    ends = [load_checkpoint(path / 'iter_6.pth') for path in (folder, tmp_path)]
    one, other = (end['state_dict'] for end in ends)
    assert one['head.center'].any()
    assert all(value.equal(other[key]) for key, value in one.items())
    one, other = (end['optimizer'] for end in ends)
    assert one['param_groups'] == other['param_groups']
    for index, state in one['state'].items():
        for key, value in state.items():
            assert value.equal(other['state'][index][key])


def test_exported_backbone_is_the_teacher(run):
    path = run[0] / 'iter_6.pth'
    state = load_checkpoint(path)['state_dict']
    tensors = BackboneFile.read(backbone_path(path)).tensors
    for name in ('layers.0.ffn.layers.1.bias', 'cls_token'):
        assert tensors[name].equal(state[f'momentum_encoder.backbone.{name}'])
        assert not tensors[name].equal(state[f'backbone.{name}'])
