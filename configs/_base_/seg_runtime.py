# default_runtime.py for mmsegmentation, whose runs count iterations.
_base_ = './default_runtime.py'

default_scope = 'mmseg'
default_hooks = dict(
    checkpoint=dict(
        type='mmpretrain.SafeCheckpointHook',
        by_epoch=False,
        interval=16000,
        save_best='mIoU',
    ),
    backbone_export=dict(type='mmpretrain.BackboneExportHook'),
    # tools/test.py --show-dir turns it on.
    visualization=dict(_delete_=True, type='SegVisualizationHook'),
)
visualizer = dict(
    _delete_=True,
    type='SegLocalVisualizer',
    vis_backends=[dict(type='LocalVisBackend')],
    alpha=0.6,
)
log_processor = dict(by_epoch=False)

# Batch norms see the whole batch where there are many GPUs. Written as SyncBN into the
# model they would not run on CPUs.
sync_bn = 'torch'
