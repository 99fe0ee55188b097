# 400 iterations of a small network on a CPU.
_base_ = './seg_160k.py'

train_cfg = dict(max_iters=400, val_interval=200)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.9), optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=40),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=40, end=400),
]
auto_scale_lr = dict(base_batch_size=8)
