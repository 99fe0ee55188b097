# Copyright (c) mmcim contributors. All rights reserved.
"""Weighted neighbours against loops over all pairs, on real digits."""

import math

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmcim.evaluation import frozen_features
from mmcim.evaluation.frozen_features import knn_accuracy

SKLEARN = pytest.importorskip('sklearn.datasets')


def brute_force(train, train_labels, val, val_labels, k, temperature):
    """Top-1 and top-5 in percent by their definition, image by image."""
    right = {1: 0, 5: 0}
    for feat, label in zip(val, val_labels):
        similar = []
        for other, vote in zip(train, train_labels):
            cosine = np.dot(feat, other) / np.linalg.norm(feat) / np.linalg.norm(other)
            similar.append((cosine, vote))
        similar.sort(key=lambda pair: -pair[0])
        votes = {}
        for cosine, vote in similar[:k]:
            votes[vote] = votes.get(vote, 0) + math.exp(cosine / temperature)
        ranking = sorted(votes, key=votes.get, reverse=True)
        for top in right:
            right[top] += label in ranking[:top]
    return {f'top{top}': 100 * count / len(val) for top, count in right.items()}


@pytest.fixture(scope='module')
def digits():
    """Features (200, 64) with their labels for voting, and (60, 64) to classify."""
    data = SKLEARN.load_digits()
    return data.data[:200], data.target[:200], data.data[900:960], data.target[900:960]


class TestKNNAccuracy:
    @pytest.mark.parametrize(
        'k, temperature', [(20, 0.07), (3, 0.07), (150, 0.5), (1000, 0.05)]
    )
    def test_accuracy_matches_loop_over_all_pairs(self, digits, k, temperature):
        found = knn_accuracy(*digits, k=k, temperature=temperature)
        expected = brute_force(*digits, k=k, temperature=temperature)
        assert found == pytest.approx(expected)
        assert 50 < found['top1'] < 100

    def test_chunk_size_does_not_change_result(self, digits, monkeypatch):
        whole = knn_accuracy(*digits)
        monkeypatch.setattr(frozen_features, '_CHUNK', 7 * 200)
        assert knn_accuracy(*digits) == whole

    def test_features_are_normalized(self, digits):
        train, train_labels, val, val_labels = digits
        random = np.random.default_rng(0)
        longer = knn_accuracy(
            train * random.uniform(0.1, 9, (200, 1)), train_labels, 3 * val, val_labels
        )
        assert longer == knn_accuracy(*digits)

    def test_class_without_votes_is_not_in_top5(self):
        """Only two of six classes get votes; the others are not in the top five."""
        train, labels = np.eye(2), np.array([0, 5])
        val = np.array([[1.0, 0.1]] * 6)
        found = knn_accuracy(train, labels, val, np.arange(6))
        assert found == pytest.approx({'top1': 100 / 6, 'top5': 200 / 6})

    @pytest.mark.parametrize('kwargs', [dict(k=0), dict(temperature=0.0)])
    def test_invalid_arguments_raise(self, digits, kwargs):
        with pytest.raises(ValueError, match='must be positive'):
            knn_accuracy(*digits, **kwargs)


def test_loop_evaluates_backbone_features(tmp_path):
    """The loop's metrics equal those of features computed image by image."""
    loader = dict(
        batch_size=32,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
    )
    dataset = dict(type='Digits', split='val', pipeline=[dict(type='PackInputs')])
    few = dict(type='FewLabels', num_per_class=8, dataset=dataset)
    cfg = Config(
        dict(
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
                    patch_size=8,
                    drop_path_rate=0.5,
                    out_type='featmap',
                ),
                neck=dict(type='GlobalAveragePooling'),
                head=dict(type='LinearClsHead', num_classes=10, in_channels=32),
            ),
            work_dir=str(tmp_path),
            test_dataloader=dict(dataset=dataset, **loader),
            test_evaluator=[],
            test_cfg=dict(
                type='KNNLoop', k=9, train_dataloader=dict(dataset=few, **loader)
            ),
            default_scope='mmpretrain',
            experiment_name='knn',
        )
    )
    torch.manual_seed(0)
    runner = Runner.from_cfg(cfg)
    metrics = runner.test()

    model = runner.model.eval()
    sets = []
    for loop_set in (runner.test_loop.train_dataloader, runner.test_dataloader):
        feats, labels = [], []
        for sample in loop_set.dataset:
            image = (sample['inputs'][None].float() - 80) / 91
            with torch.no_grad():
                feats.append(model.backbone(image)[0].mean((2, 3))[0].double().numpy())
            labels.append(int(sample['data_samples'].gt_label))
        sets += [np.stack(feats), np.array(labels)]
    assert len(sets[1]) == 80
    expected = brute_force(*sets, k=9, temperature=0.07)
    assert metrics == {
        'knn/top1': pytest.approx(expected['top1']),
        'knn/top5': pytest.approx(expected['top5']),
    }
    assert 20 < metrics['knn/top1'] < metrics['knn/top5'] <= 100
