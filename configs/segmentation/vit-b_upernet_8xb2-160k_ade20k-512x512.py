r"""UperNet, ViT-B/16, ADE20K at 512 px, 160,000 iterations.

    C=configs/segmentation/vit-b_upernet_8xb2-160k_ade20k-512x512.py
    tools/dist_train.sh $C 8 --pretrained FILE

In float32; --amp takes bfloat16 where the GPU has it. tools/test.py tests
in sliding windows of 512 px with a stride of 341 px, as BEiT does, and --tta at six
scales. Whole images, which need whole patches:

    --cfg-options model.test_cfg.mode=whole \
        model.data_preprocessor.test_cfg.size_divisor=32

Recipe: BEiT's for a backbone with no supervised training. CIM's paper does not report
UperNet; its own decoder is in vit-b_linear_8xb2-160k_ade20k-512x512.py.
"""

_base_ = ['../_base_/models/upernet_vit-b.py', '../_base_/ade20k_160k.py']

model = dict(
    data_preprocessor=_base_.data_preprocessor,
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/cim/vit-b_8xb256-300e/epoch_300_backbone.safetensors',
        )
    ),
)
