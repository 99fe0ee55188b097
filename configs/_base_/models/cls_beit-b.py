# The classifier of cls_vit-b.py on a BEiT: relative positions of each layer, which begin
# as copies of the shared ones of the pre-training, and no absolute ones.
_base_ = 'cls_vit-b.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='FusedBEiTViT',
        arch='deit-base',
        img_size=224,
        patch_size=16,
        drop_path_rate=0.1,
        out_type='avg_featmap',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/vit-b_conmim_8xb256-800e/'
            'epoch_800_backbone.safetensors',
        ),
    )
)
