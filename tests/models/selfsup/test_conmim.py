# Copyright (c) mmcim contributors. All rights reserved.
"""ConMIM against its equation, image by image and step by step."""

import math
from functools import partial

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import set_random_seed
from mmpretrain.registry import DATASETS, MODELS
from torch.utils.data import Dataset

from mmcim.checkpoints import BackboneFile, backbone_path, load_into
from mmcim.engine import StrictRunner
from mmcim.models import ConMIM, ConMIMDataPreprocessor, DenoisingContrastHead

from .conftest import vit
from .two_processes import assert_two_match_one

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def neck(channels=32, hidden=48, out=16):
    return dict(
        type='NonLinearNeck',
        in_channels=channels,
        hid_channels=hidden,
        out_channels=out,
        num_layers=3,
        with_bias=False,
        with_last_bn_affine=False,
        with_avg_pool=False,
        norm_cfg=dict(type='BN1d'),
    )


def conmim(**kwargs):
    """32 px, 4 x 4 patches of 8 px, 2 x 2 squares of which 3 are masked."""
    config = dict(
        type='ConMIM',
        backbone=vit('FusedBEiTPretrainViT'),
        neck=neck(),
        data_preprocessor=dict(mean=MEAN, std=STD),
    )
    return config | kwargs


def build(**kwargs):
    torch.manual_seed(1)
    model = MODELS.build(conmim(**kwargs))
    model.init_weights()
    return model


def images(batch=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, 3, 32, 32)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8)


def batch_inputs(batch=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    names = ('images', 'momentum_images')
    return {k: torch.randn(batch, 3, 32, 32, generator=generator) for k in names}


class TestLoss:
    """``DenoisingContrastHead`` against the equation, written out in loops."""

    @staticmethod
    def plain(queries, keys, mask, tau):
        """Loss and accuracy of float64 tensors, patch by patch."""
        losses, found = [], []
        for q, k, masked in zip(queries, keys, mask.flatten(1), strict=True):
            own = []
            q = [row / row.pow(2).sum().sqrt() for row in q]
            k = [row / row.pow(2).sum().sqrt() for row in k]
            for j in range(len(q)):
                if not masked[j]:
                    continue
                scores = [(q[j] * k[i]).sum() / tau for i in range(len(k))]
                total = sum(torch.exp(score) for score in scores)
                own.append(-torch.log(torch.exp(scores[j]) / total))
                found.append(max(range(len(k)), key=lambda i: scores[i]) == j)
            losses.append(sum(own) / len(own))
        return sum(losses) / len(losses), sum(found) / len(found)

    @pytest.mark.parametrize('tau', [0.1, 0.5])
    def test_loss_and_gradients_match_formula(self, tau):
        torch.manual_seed(0)
        queries = 3 * torch.randn(3, 12, 8)
        keys = queries + 4 * torch.randn(3, 12, 8)
        mask = torch.rand(3, 3, 4) < torch.tensor([0.3, 0.5, 0.9])[:, None, None]
        ours, plain = queries.clone().requires_grad_(), queries.double().requires_grad_()
        keys.requires_grad_()
        head = DenoisingContrastHead(tau)
        got = head.loss(ours, keys, mask)
        loss, accuracy = self.plain(plain, keys.detach().double(), mask, tau)
        assert got['loss'].item() == pytest.approx(loss.item(), rel=1e-5)
        assert got['accuracy'].item() == pytest.approx(accuracy)
        assert 0 < accuracy < 1
        got['loss'].backward()
        loss.backward()
        torch.testing.assert_close(ours.grad.double(), plain.grad, atol=1e-7, rtol=1e-4)
        assert not ours.grad[~mask.flatten(1)].any()
        assert keys.grad is None

    def test_autocast_changes_nothing(self):
        torch.manual_seed(0)
        queries, keys = torch.randn(2, 2, 9, 8)
        mask = torch.ones(2, 3, 3, dtype=torch.bool)
        head = DenoisingContrastHead()
        expected = head.loss(queries, keys, mask)
        with torch.autocast('cpu', torch.bfloat16):
            got = head.loss(queries, keys, mask)
        assert got['loss'].equal(expected['loss'])


class TestViews:
    def run(self, training=True, batch=64, **kwargs):
        preprocessor = ConMIMDataPreprocessor(mean=MEAN, std=STD, **kwargs)
        inputs = images(batch)
        return preprocessor, inputs, preprocessor(dict(inputs=inputs), training)['inputs']

    def test_weak_view_is_normalized_image(self):
        _, inputs, out = self.run(flip_prob=0.0)
        mean, std = (torch.tensor(x).view(3, 1, 1) for x in (MEAN, STD))
        torch.testing.assert_close(out['images'], (inputs - mean) / std)

    def test_views_share_geometry(self):
        """Jitter, grey and solarisation are pixelwise."""
        augment = dict(type='StrongAugment', blur_prob=0.0, hue=0.0)
        torch.manual_seed(0)
        preprocessor, inputs, out = self.run(
            flip_prob=0.5, batch=200, momentum_augment=augment | dict(contrast=0.0)
        )
        weak, strong = map(
            preprocessor.denormalize, (out['images'], out['momentum_images'])
        )
        plain = inputs.float() / 255
        flipped = (weak - plain.flip(-1)).abs().amax((1, 2, 3)) < 1e-5
        kept = (weak - plain).abs().amax((1, 2, 3)) < 1e-5
        assert (flipped ^ kept).all() and 60 < flipped.sum() < 140
        changed = (weak - strong).abs().amax((1, 2, 3)) > 0.01
        assert changed.float().mean() > 0.7
        # Equal pixels stay equal: of an image of two colours at random positions
        # the strong view has two colours at the same positions.
        torch.manual_seed(0)
        places = torch.rand(200, 1, 32, 32) < 0.3
        colours = torch.randint(256, (2, 200, 3, 1, 1), dtype=torch.uint8)
        two = torch.where(places, *colours)
        data = preprocessor(dict(inputs=two), training=True)['inputs']
        for a, b in zip(data['images'], data['momentum_images'], strict=True):
            where = (a == a[:, :1, :1]).all(dim=0)
            assert where.any() and not where.all()
            for region in (where, ~where):
                assert (b[:, region] - b[:, region][:, :1]).abs().max() < 1e-4

    def test_both_views_with_same_augmentation(self):
        _, _, out = self.run(momentum_augment=None)
        assert out['images'].equal(out['momentum_images'])
        strong = dict(type='StrongAugment', jitter_prob=1.0)
        _, inputs, out = self.run(online_augment=strong, flip_prob=0.0)
        mean, std = (torch.tensor(x).view(3, 1, 1) for x in (MEAN, STD))
        weak = (inputs - mean) / std
        for view in out.values():
            assert ((view - weak).abs().amax((1, 2, 3)) > 0.05).float().mean() > 0.7
        assert not out['images'].allclose(out['momentum_images'], atol=0.05)

    def test_evaluation_is_deterministic(self):
        state = torch.get_rng_state()
        _, inputs, out = self.run(training=False, flip_prob=1.0)
        assert torch.get_rng_state().equal(state)
        assert out['images'].equal(out['momentum_images'])
        assert out.shape == (64, 3, 32, 32)


class TestModel:
    def test_inputs_of_both_encoders(self):
        """Loss from patches, mask, class token and projector, step by step."""
        model = build()
        inputs = batch_inputs()
        torch.manual_seed(7)
        out = model.loss(inputs)
        torch.manual_seed(7)
        mask = model.masking(4, (4, 4), torch.device('cpu'))
        assert (mask.sum(dim=(1, 2)) == 12).all()

        def project(network, tokens):
            """Three linears; BN over all tokens of all images, no affine at the end."""
            x = tokens.reshape(4 * 17, -1)
            for i in range(3):
                x = x @ network.get_parameter(f'fc{i}.weight').T
                x = (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt()
                x = x.relu() if i < 2 else x
            return x.reshape(4, 17, -1)[:, 1:]

        assert [k for k, _ in model.neck.named_parameters()] == [
            'fc0.weight', 'bn0.weight', 'bn0.bias', 'fc1.weight', 'bn1.weight',
            'bn1.bias', 'fc2.weight',
        ]  # fmt: skip
        queries = project(model.neck, model.backbone(inputs['images'], mask)[-1])
        keys = project(model.neck, model.backbone(inputs['momentum_images'], None)[-1])
        loss, accuracy = TestLoss.plain(queries.double(), keys.double(), mask, 0.1)
        assert out['loss'].item() == pytest.approx(loss.item(), rel=1e-4)
        assert out['accuracy'].item() == pytest.approx(accuracy)

    def test_no_gradient_flows_into_momentum_encoder(self):
        model = build()
        inputs = batch_inputs()
        inputs['momentum_images'].requires_grad_()
        model.loss(inputs)['loss'].backward()
        assert inputs['momentum_images'].grad is None
        assert all(p.grad is None for p in model.momentum_encoder.parameters())
        missing = [
            name
            for name, p in model.named_parameters()
            if p.requires_grad and (p.grad is None or not p.grad.any())
        ]
        assert not missing
        assert all(
            not p.requires_grad for p in model.momentum_encoder.parameters()
        ) and any(p.requires_grad for p in model.backbone.parameters())

    def test_batch_norm_statistics_are_separate(self):
        model = build()
        model.loss(batch_inputs())
        online, copy = model.neck.bn0, model.momentum_encoder.neck.bn0
        assert online.num_batches_tracked == copy.num_batches_tracked == 1
        assert not online.running_mean.allclose(copy.running_mean)

    def test_momentum_encoder_starts_as_copy(self):
        model = build()
        state = model.state_dict()
        for name, value in state.items():
            if name.startswith(('backbone.', 'neck.')):
                assert value.equal(state[f'momentum_encoder.{name}']), name

    def test_optimizer_has_online_parameters_only(self):
        model = build()
        optim = dict(
            type='AutoAmpOptimWrapper',
            constructor='NetworkwiseOptimWrapperConstructor',
            optimizer=dict(type='AdamW', lr=1e-3),
        )
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            optim = build_optim_wrapper(model, optim)
        ours = {id(p) for g in optim.optimizer.param_groups for p in g['params']}
        named = dict(model.named_parameters())
        assert ours == {
            id(p) for n, p in named.items() if n.startswith(('backbone.', 'neck.'))
        }

    @pytest.mark.parametrize('export', ['momentum', 'online'])
    def test_features_come_from_exported_backbone(self, export):
        model = build(export=export).eval()
        torch.nn.init.normal_(model.momentum_encoder.backbone.ln1.weight)
        images = batch_inputs()['images']
        kept = model.momentum_encoder if export == 'momentum' else model
        expected = kept.backbone(images, None)[-1]
        assert model.extract_feat(images)[-1].equal(expected)
        assert model(dict(images=images))[-1].equal(expected)
        other = model if export == 'momentum' else model.momentum_encoder
        assert not other.backbone(images, None)[-1].allclose(expected)

    def test_unknown_export_raises(self):
        with pytest.raises(ValueError, match="'teacher'.*'momentum', 'online'"):
            build(export='teacher')


OPTIM = dict(
    type='AutoAmpOptimWrapper',
    precision='float32',
    constructor='NetworkwiseOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
)


def distributed_config():
    """Fixed masks and views."""
    return dict(
        masking=dict(type='FixedMasking'),
        data_preprocessor=dict(mean=MEAN, std=STD, flip_prob=0.0, momentum_augment=None),
    )


def train_steps(model, part, num=3):
    plain = getattr(model, 'module', model)
    # Not Adam: biases in front of a norm have gradients of rounding only.
    sgd = dict(OPTIM, optimizer=dict(type='SGD', lr=0.05, momentum=0.9))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        optim = build_optim_wrapper(plain, sgd)
    inputs = torch.cat([images(2), images(2, seed=1)])[part]
    for step in range(num):
        model.train_step(dict(inputs=inputs), optim)
        plain.momentum_encoder.update(plain, step, num)


def test_two_processes_match_one(tmp_path):
    """Encoder, projector with its batch norms, loss, gradients, momentum encoder."""
    start, end = assert_two_match_one(
        partial(build, **distributed_config()), train_steps, tmp_path
    )
    moved = {key for key, value in end.items() if not value.equal(start[key])}
    model = build(**distributed_config())
    assert {key for key, _ in model.named_parameters()} <= moved


@DATASETS.register_module()
class FewImages(Dataset):
    """Eight images of noise."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return dict(inputs=images(8)[index])


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A short run: its folder and its model."""
    folder = tmp_path_factory.mktemp('run')
    config = conmim()
    cfg = Config(
        dict(
            model=config,
            default_scope='mmpretrain',
            work_dir=str(folder),
            train_dataloader=dict(
                batch_size=4,
                sampler=dict(type='DefaultSampler', shuffle=False),
                collate_fn=dict(type='default_collate'),
                dataset=dict(type='FewImages'),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=2),
            optim_wrapper=OPTIM,
            default_hooks=dict(
                checkpoint=dict(type='SafeCheckpointHook', interval=2),
                backbone_export=dict(type='BackboneExportHook'),
            ),
            randomness=dict(seed=0),
            log_level='WARNING',
        )
    )
    runner = StrictRunner.from_cfg(cfg)
    runner.train()
    return folder, runner.model


def test_exported_backbone_is_the_momentum_encoder(run):
    folder, model = run
    file = BackboneFile.read(folder / 'epoch_2.pth')
    assert file.prefix == 'momentum_encoder.backbone.'
    file = BackboneFile.read(backbone_path(folder / 'epoch_2.pth'))
    tensors = file.tensors
    assert file.record.origin['method'] == 'ConMIM'
    copy, online = model.momentum_encoder.backbone, model.backbone
    for name, value in copy.state_dict().items():
        if name in tensors:
            assert tensors[name].equal(value)
    assert set(dict(copy.named_parameters())) <= set(tensors)
    assert not tensors['layers.0.ffn.layers.1.bias'].equal(
        online.layers[0].ffn.layers[1].bias
    )
    # The file records how to build the backbone, though a copy has no own config.
    assert file.record.grid == (4, 4)
    again = file.build()
    again.load_state_dict(tensors, strict=False)
    images = batch_inputs()['images']
    assert again(images, None)[-1].equal(copy(images, None)[-1])


@pytest.mark.parametrize('kept', ['momentum', 'online'])
def test_checkpoint_gives_either_backbone(run, kept):
    folder, model = run
    network = MODELS.build(
        vit(
            'FusedBEiTViT',
            use_rel_pos_bias=False,
            use_shared_rel_pos_bias=True,
            final_norm=True,
            out_type='raw',
        )
    )
    prefix = ConMIM.EXPORTS[kept]
    load_into(network, str(folder / 'epoch_2.pth'), prefix=prefix)
    images = batch_inputs()['images']
    expected = model.get_submodule(prefix.rstrip('.'))(images, None)[-1]
    torch.testing.assert_close(network(images)[-1], expected)


@pytest.mark.slow
def test_training_on_real_images_lowers_loss(imagenette_mini):
    """48 px, 6 x 6 patches of 8 px, in squares of which about half are masked."""
    loader = dict(
        batch_size=32,
        num_workers=0,
        sampler=dict(type='InfiniteSampler', seed=0),
        collate_fn=dict(type='default_collate'),
        dataset=dict(
            type='CustomDataset',
            data_root=str(imagenette_mini / 'train'),
            with_label=False,
            pipeline=[
                dict(type='LoadImage'),
                dict(
                    type='RandomResizedCrop',
                    scale=48,
                    crop_ratio_range=(0.3, 1.0),
                    backend='pillow',
                    interpolation='bicubic',
                ),
                dict(type='PackInputs'),
            ],
        ),
    )
    arch = dict(embed_dims=48, num_layers=2, num_heads=3, feedforward_channels=192)
    set_random_seed(0)
    size = dict(img_size=48, arch=arch, layer_scale_init_value=1.0)
    backbone = vit('FusedBEiTPretrainViT') | size
    masking = dict(type='RatioMasking', ratio=0.5, mask_patch_size=2)
    config = conmim(backbone=backbone, neck=neck(48, 128, 64), masking=masking)
    config['data_preprocessor'] = dict(mean=MEAN, std=STD, to_rgb=True)
    model = MODELS.build(config)
    model.init_weights()
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        batches = iter(StrictRunner.build_dataloader(loader))
        optim = OPTIM | dict(
            optimizer=dict(type='AdamW', lr=3e-3, betas=(0.9, 0.98)),
            # Relative positions, which distinguish masked patches, start at zero.
            paramwise_cfg=dict(
                custom_keys=dict(relative_position_bias_table=dict(lr_mult=30.0))
            ),
        )
        optim = build_optim_wrapper(model, optim)
    logs = []
    for step in range(400):
        log = model.train_step(next(batches), optim)
        model.momentum_encoder.update(model, step, 400)
        logs.append({key: value.item() for key, value in log.items()})

    def mean(key, part):
        return sum(log[key] for log in logs[part]) / len(logs[part])

    first, last = slice(0, 10), slice(-30, None)
    # An untrained encoder gives equal logits for all patches.
    assert mean('loss', last) < min(mean('loss', first), math.log(36)) - 0.05
    assert mean('accuracy', last) > 1.3 / 36


def test_two_crops_raise():
    """Of a pipeline with two crops one would be dropped silently."""
    model = build()
    with pytest.raises(TypeError, match='must be uint8, .* not list of shape'):
        model.data_preprocessor(dict(inputs=[images(), images()]), training=True)
