# What every run shares: hooks, processes, logs and random numbers.
default_scope = 'mmpretrain'
custom_imports = dict(imports=['mmcim'], allow_failed_imports=False)

# Resumes exactly; loads all of a checkpoint or fails; stores and compares settings.
runner_type = 'StrictRunner'

default_hooks = dict(
    # Reads what is logged once per interval, without waiting for a GPU in between, and
    # stops a run whose loss is NaN or infinite.
    runtime_info=dict(type='DeferredInfoHook'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # Safe against a crash at any moment; only the last three are kept.
    checkpoint=dict(type='SafeCheckpointHook', interval=1, max_keep_ckpts=3),
    # Beside each checkpoint: epoch_1_backbone.safetensors.
    backbone_export=dict(type='BackboneExportHook'),
    # Images and numbers that show whether it learns, through the visualizer.
    watch=dict(type='WatchHook', interval=1000),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='VisualizationHook', enable=False),
)

env_cfg = dict(
    # True lets cuDNN try algorithms that need much memory: with CIM's ViT-B 11 GiB more
    # on an H100, and no image more per second.
    cudnn_benchmark=False,
    # What GPUs compute of float32 in TF32: 'none', 'convolutions', which is PyTorch's
    # default, or 'all', which adds matrix products.
    tf32='convolutions',
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    # On machines with no GPU the tools take gloo instead. A process that has waited so
    # many seconds, for others or for a worker of its data loader, ends the run.
    dist_cfg=dict(backend='nccl', timeout=1800),
)

visualizer = dict(type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
log_level = 'INFO'

load_from = None
resume = False

# Each process draws its own masks and samples. A seed makes the run repeatable.
randomness = dict(seed=None, deterministic=False)
