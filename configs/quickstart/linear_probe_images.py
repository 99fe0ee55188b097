"""Quickstart, step 3: a linear classifier on features of the frozen backbone.

    python tools/test.py configs/quickstart/linear_probe_images.py

20 labelled images per class, without augmentation.
"""

_base_ = './finetune_images.py'

test_cfg = dict(
    type='LinearProbeLoop',
    train_dataloader=dict(
        batch_size=128,
        num_workers=_base_.train_dataloader.num_workers,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
        dataset=dict(
            type='FewLabels',
            num_per_class=20,
            seed=0,
            dataset={
                **_base_.train_dataloader.dataset.dataset,
                'pipeline': _base_.test_pipeline,
            },
        ),
    ),
)
