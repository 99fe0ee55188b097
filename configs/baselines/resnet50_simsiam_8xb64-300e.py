"""SimSiam, ResNet-50, ImageNet-1k, 300 epochs.

    tools/dist_train.sh configs/baselines/resnet50_simsiam_8xb64-300e.py 8

The released recipe, of 100 epochs there: SGD at 0.05 per 256 images, constant for the
predictor. With another batch, set the hook's `lr` as well.
"""

_base_ = '../_base_/siamese_resnet50_sgd.py'

mlp = dict(hid_channels=512, out_channels=2048, with_last_bn=False, with_last_bias=True)
model = dict(
    type='SimSiamBaseline',
    backbone=_base_.backbone,
    neck=dict(
        _base_.projector, out_channels=2048, num_layers=3, with_last_bn_affine=False
    ),
    head=dict(
        type='LatentPredictHead',
        predictor=dict(_base_.predictor, **mlp),
        loss=dict(type='CosineSimilarityLoss'),
    ),
)

train_dataloader = dict(batch_size=64)
optim_wrapper = dict(
    optimizer=dict(lr=0.1),
    paramwise_cfg=dict(custom_keys=dict(predictor=dict(fix_lr=True))),
)
auto_scale_lr = dict(base_batch_size=512)
custom_hooks = [dict(type='SimSiamHook', fix_pred_lr=True, lr=0.1, adjust_by_epoch=False)]
