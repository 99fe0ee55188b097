# What Siamese methods on a ResNet-50 share: two crops of each image, batch norms over all
# processes, and LARS. 300 epochs, as CIM; cosine to 0 after 10 epochs of warm-up.
_base_ = './pretrain_imagenet_224.py'

data_preprocessor = dict(type='TwoCropsDataPreprocessor')
train_pipeline = [_base_.load, _base_.views, _base_.pack]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

backbone = dict(type='ResNet', depth=50)
projector = dict(
    type='NonLinearNeck', in_channels=2048, hid_channels=2048, norm_cfg=dict(type='BN1d')
)
predictor = dict(projector, with_avg_pool=False)

sync_bn = 'torch'

# timm's LARS adapts what decays, not biases and norms; mmpretrain's waits for the GPU.
excluded = dict(decay_mult=0.0)
optim_wrapper = dict(
    optimizer=dict(
        _delete_=True, type='timm.optim.Lars', lr=2.4, momentum=0.9, weight_decay=1e-6
    ),
    paramwise_cfg=dict(
        custom_keys={'bn': excluded, 'bias': excluded, 'downsample.1': excluded}
    ),
    clip_grad=None,
)
cosine = dict(eta_min=None, eta_min_ratio=0.0)
param_scheduler = [_base_.warm_up, {**_base_.cosine, **cosine}]
