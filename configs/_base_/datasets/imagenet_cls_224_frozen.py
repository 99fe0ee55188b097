# ImageNet-1k for test loops on frozen features: nothing is trained or augmented.
# Few labels: --cfg-options test_cfg.train_dataloader.dataset.fraction=0.01
_base_ = 'imagenet_cls_224.py'

test_cfg = dict(
    train_dataloader=dict(
        batch_size=128,
        num_workers=8,
        persistent_workers=False,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
        dataset=dict(
            type='FewLabels',
            dataset=dict(
                type='ImageFolder',
                data_root='data/imagenet',
                data_prefix='train',
                pipeline=_base_.test_pipeline,
            ),
        ),
    ),
)
test_evaluator = []
train_dataloader = val_dataloader = val_evaluator = None
