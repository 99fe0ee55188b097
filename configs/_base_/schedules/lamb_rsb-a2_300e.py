# Procedure A2 of "ResNet strikes back": A3 for 300 epochs with a lower learning rate.
_base_ = 'lamb_rsb-a3_100e.py'

train_cfg = dict(max_epochs=300)
optim_wrapper = dict(optimizer=dict(lr=5e-3))
param_scheduler = [
    _base_.param_scheduler[0],
    {**_base_.param_scheduler[1], 'end': 300},
]
