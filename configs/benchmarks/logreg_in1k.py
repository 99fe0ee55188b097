"""Logistic regression on features of any frozen backbone, 1 % of ImageNet-1k's labels.

    python tools/test.py configs/benchmarks/logreg_in1k.py --pretrained FILE

There is no training loop; for all labels linear_8xb2048-90e_in1k.py trains one.
Other fractions: --cfg-options test_cfg.train_dataloader.dataset.fraction=0.05
"""

_base_ = './knn_in1k.py'

test_cfg = dict(
    type='LinearProbeLoop', train_dataloader=dict(dataset=dict(fraction=0.01))
)
