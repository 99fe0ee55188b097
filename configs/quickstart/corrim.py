r"""CorrIM on handwritten digits, at the size of the quickstart.

    W=work_dirs/quickstart
    python tools/train.py configs/quickstart/corrim.py --work-dir $W/corrim
    python tools/test.py configs/quickstart/linear_probe.py --cfg-options \
        model.backbone.init_cfg.checkpoint=$W/corrim/iter_400_backbone.safetensors
"""

_base_ = [
    '../_base_/models/quickstart_corrim.py',
    '../_base_/datasets/digits_corrim.py',
    '../_base_/schedules/quickstart_cim.py',
    '../_base_/quickstart_runtime.py',
]
