"""Logistic regression on features of CIM's frozen ViT-B/8, Imagenette at 128 px.

    python tools/test.py configs/cim/benchmarks/vit-b_logreg_imagenette-128.py

With all labels by default; with 5 per class:
--cfg-options test_cfg.train_dataloader.dataset.num_per_class=5
"""

_base_ = './vit-b_knn_imagenette-128.py'

test_cfg = dict(type='LinearProbeLoop')
