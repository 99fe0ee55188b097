# default_runtime.py for runs of a few hundred iterations, repeatable.
_base_ = './default_runtime.py'

default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(by_epoch=False, interval=200, max_keep_ckpts=1),
)
custom_hooks = [dict(type='FiniteLossHook', interval=20)]
log_processor = dict(by_epoch=False, window_size=20)
randomness = dict(seed=0)
