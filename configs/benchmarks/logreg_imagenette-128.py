"""Logistic regression on features of any frozen backbone, Imagenette at 128 px.

    python tools/test.py configs/benchmarks/logreg_imagenette-128.py --pretrained FILE

With all labels by default; with 5 per class:
--cfg-options test_cfg.train_dataloader.dataset.num_per_class=5
"""

_base_ = './knn_imagenette-128.py'

test_cfg = dict(type='LinearProbeLoop')
