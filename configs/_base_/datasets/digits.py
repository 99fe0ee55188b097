# scikit-learn's 1,438 training digits at 24 px: nothing to download.
tokenizer_checkpoint = 'work_dirs/quickstart/tokenizer/iter_400.pth'
size = dict(img_size=24, patch_size=4)
normalize = dict(mean=[79.5, 79.5, 79.5], std=[91.0, 91.0, 91.0])
data_preprocessor = dict(
    type='CIMDataPreprocessor',
    **normalize,
    flip_prob=0.0,  # a mirrored digit is no digit
)

affine = dict(
    type='torchvision/RandomAffine',
    degrees=10,
    translate=(0.08, 0.08),
    scale=(0.85, 1.1),
    shear=8,
    interpolation='bilinear',
)
to_pil, pack = dict(type='NumpyToPIL'), dict(type='PackInputs')
views = dict(type='MultiView', num_views=2, transforms=[[affine]])  # of Siamese methods
train_pipeline = [to_pil, affine, pack]

# The whole pipeline takes 0.1 ms an image: it needs no worker process.
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    persistent_workers=False,
    drop_last=True,
    sampler=dict(type='InfiniteSampler'),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='Digits', split='train', size=24, pipeline=train_pipeline),
)

test_pipeline = [pack]

# tools/test.py CONFIG CHECKPOINT gives the losses on these images.
test_dataloader = dict(
    batch_size=128,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='Digits', split='val', size=24, pipeline=test_pipeline),
)
test_cfg = dict(type='SelfSupTestLoop')
test_evaluator = []

# What a classifier reads.
labelled = dict(train=train_dataloader['dataset'], val=test_dataloader['dataset'])
