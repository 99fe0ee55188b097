# Imagenette at 128 px for test loops on frozen features: nothing is trained or
# augmented. Few labels:
#   --cfg-options test_cfg.train_dataloader.dataset.num_per_class=5
_base_ = 'imagenette_cls_128.py'

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
                data_root='data/imagenette128',
                data_prefix='train',
                pipeline=_base_.test_pipeline,
            ),
        ),
    ),
)
test_evaluator = []
train_dataloader = val_dataloader = val_evaluator = None
