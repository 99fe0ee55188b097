# Imagenette at 128 px with the augmentation of BEiT's fine-tuning.
_base_ = ['imagenette_cls_128.py', 'imagenet_cls_beit-augment.py']

train_pipeline = [
    *_base_.train_pipeline[:-1],
    *_base_.augment,
    _base_.train_pipeline[-1],
]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
