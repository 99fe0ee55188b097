# Copyright (c) mmcim contributors. All rights reserved.
import pickle

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from mmengine.config import ConfigDict
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS
from mmpretrain.structures import DataSample
from torch import nn
from torch.utils.data import Dataset

from mmcim.evaluation import LinearProbeLoop
from mmcim.evaluation.frozen_features import collect_features, linear_probe

pytest.importorskip('sklearn')


def blobs(num, seed, noise=0.1):
    """Features around the corners of a simplex: class k at unit vector k."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num) % 4
    return np.eye(4)[labels] + noise * rng.standard_normal((num, 4)), labels


class TestLinearProbe:
    def test_separable_classes(self):
        found = linear_probe(*blobs(80, 0), *blobs(40, 1))
        assert found == {'top1': 100.0, 'top5': 100.0}

    def test_accuracy_counts_correct_predictions(self):
        feats, labels = blobs(40, 1)
        wrong = labels.copy()
        wrong[:10] = (wrong[:10] + 1) % 4
        assert linear_probe(*blobs(80, 0), feats, wrong)['top1'] == 75.0

    def test_random_labels_give_chance_accuracy(self):
        rng = np.random.default_rng(0)
        feats = rng.standard_normal((2000, 8))
        labels = rng.integers(0, 4, 2000)
        found = linear_probe(feats[:1000], labels[:1000], feats[1000:], labels[1000:])
        assert abs(found['top1'] - 25) < 6
        assert found['top5'] == 100

    def test_features_are_standardized(self):
        (train, train_labels), (val, val_labels) = blobs(80, 0, 0.5), blobs(40, 1, 0.5)
        plain = linear_probe(train, train_labels, val, val_labels)
        scale, offset = np.array([1e-4, 1, 1e3, 7]), np.array([0, 50, -3, 1e3])
        moved = linear_probe(
            train * scale + offset, train_labels, val * scale + offset, val_labels
        )
        assert plain == moved
        assert plain['top1'] < 100

    def test_constant_feature_is_ignored(self):
        (train, train_labels), (val, val_labels) = blobs(80, 0), blobs(40, 1)
        train[:, 3] = val[:, 3] = 1.0
        assert linear_probe(train, train_labels, val, val_labels)['top1'] == 100.0

    def test_regularization_strength(self):
        """With a very strong penalty only the class frequencies remain."""
        (train, labels), val = blobs(80, 0), blobs(40, 1)
        keep = np.concatenate([np.flatnonzero(labels == 2), np.arange(20)])
        found = linear_probe(train[keep], labels[keep], *val, C=1e-9)
        assert found['top1'] == 25.0

    def test_top5_matches_scikit_learn(self):
        """Validation has unseen labels, and some classes have no images."""
        from sklearn.datasets import load_digits
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import top_k_accuracy_score

        digits = load_digits()
        known = (digits.target < 9) & (digits.target != 4)
        feats, labels = digits.data[known][:60], digits.target[known][:60]
        val, val_labels = digits.data[900:], digits.target[900:]
        found = linear_probe(feats, labels, val, val_labels)

        mean, std = feats.mean(0), feats.std(0)
        std[std == 0] = 1
        model = LogisticRegression(max_iter=1000).fit((feats - mean) / std, labels)
        scores = np.full((len(val), 10), -1.0)
        scores[:, model.classes_] = model.predict_proba((val - mean) / std)
        for k in (1, 5):
            expected = 100 * top_k_accuracy_score(val_labels, scores, k=k)
            assert found[f'top{k}'] == pytest.approx(expected)
        # A fifth of the validation labels are unknown.
        assert 50 < found['top1'] < found['top5'] < 82


@DATASETS.register_module()
class ProbeBlobs(Dataset):
    def __init__(self, num, seed):
        feats, labels = blobs(num, seed)
        self.feats, self.labels = torch.from_numpy(feats).float(), labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        sample = DataSample().set_gt_label(int(self.labels[index]))
        return dict(inputs=self.feats[index], data_samples=sample)


class ProbeModel(BaseModel):
    """Its features are the inputs, except in training mode."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def extract_feat(self, inputs, stage):
        assert stage == 'pre_logits'
        return inputs * self.weight if not self.training else inputs * 0

    def forward(self, inputs, data_samples=None, mode='tensor'):
        raise AssertionError('the probe only extracts features')


def loader(num, seed, shuffle=False):
    return dict(
        batch_size=7,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=shuffle),
        collate_fn=dict(type='default_collate'),
        dataset=dict(type='ProbeBlobs', num=num, seed=seed),
    )


def build_runner(work_dir, **kwargs):
    config = dict(
        model=ProbeModel(),
        work_dir=str(work_dir),
        test_dataloader=loader(41, seed=1),
        test_evaluator=[],
        test_cfg=dict(
            type='LinearProbeLoop', train_dataloader=loader(81, 0, shuffle=True)
        ),
        default_scope='mmpretrain',
        experiment_name=f'probe-{np.random.default_rng().integers(2**40)}',
        log_level='INFO',
    )
    return Runner(**{**config, **kwargs})


class TestLinearProbeLoop:
    def test_loop_reports_accuracy(self, tmp_path):
        runner = build_runner(tmp_path)
        runner.model.train()
        metrics = runner.test()
        assert metrics == {'linear/top1': 100.0, 'linear/top5': 100.0}
        assert isinstance(runner.test_loop, LinearProbeLoop)
        logs = '\n'.join(path.read_text() for path in tmp_path.rglob('*.log'))
        assert 'linear/top1: 100.0' in logs

    def test_every_image_is_used_once(self, tmp_path):
        runner = build_runner(tmp_path)
        runner.model.eval()
        loop = runner.build_test_loop(runner._test_loop)
        feats, labels = collect_features(runner.model, loop.dataloader)
        expected_feats, expected_labels = blobs(41, seed=1)
        np.testing.assert_allclose(feats, expected_feats, rtol=1e-6)
        np.testing.assert_array_equal(labels, expected_labels)

    def test_probe_on_digits(self, tmp_path):
        """Features of a random classifier separate the digits partly."""
        torch.manual_seed(0)
        digits = dict(
            batch_size=128,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
        )
        pipeline = [dict(type='PackInputs')]
        train, test = (
            dict(dataset=dict(type='Digits', split=x, pipeline=pipeline), **digits)
            for x in ('train', 'val')
        )
        runner = build_runner(
            tmp_path,
            model=dict(
                type='ImageClassifier',
                data_preprocessor=dict(mean=[80] * 3, std=[91] * 3),
                backbone=dict(
                    type='VisionTransformer',
                    arch=dict(
                        embed_dims=32,
                        num_layers=1,
                        num_heads=2,
                        feedforward_channels=64,
                    ),
                    img_size=32,
                    patch_size=4,
                    out_type='avg_featmap',
                ),
                head=dict(type='LinearClsHead', num_classes=10, in_channels=32),
            ),
            test_dataloader=test,
            test_evaluator=dict(type='Accuracy'),
            test_cfg=ConfigDict(type='LinearProbeLoop', train_dataloader=train),
        )
        assert 30 < runner.test()['linear/top1'] < 95


def _distributed_probe(rank, folder):
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/init', rank=rank, world_size=2
    )
    runner = build_runner(folder, experiment_name='two-processes')
    metrics = runner.test()
    features = collect_features(runner.model, runner.test_dataloader)
    (folder / f'{rank}.pkl').write_bytes(pickle.dumps((metrics, features)))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes(tmp_path):
    """Results of both processes are joined without the sampler's padding."""
    mp.spawn(_distributed_probe, args=(tmp_path,), nprocs=2)
    first, second = (
        pickle.loads((tmp_path / f'{rank}.pkl').read_bytes()) for rank in range(2)
    )
    assert first[0] == second[0] == {'linear/top1': 100.0, 'linear/top5': 100.0}
    feats, labels = first[1]
    expected_feats, expected_labels = blobs(41, seed=1)
    np.testing.assert_allclose(feats, expected_feats, rtol=1e-6)
    np.testing.assert_array_equal(labels, expected_labels)
    assert second[1] is None
