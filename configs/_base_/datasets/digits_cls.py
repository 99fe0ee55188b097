# scikit-learn's digits at 24 px for classification: 1,438 for training, 359 for
# validation. Few labels per class: wrap the training set in type='FewLabels'.
data_preprocessor = dict(
    type='ClsDataPreprocessor',
    num_classes=10,
    mean=[79.5, 79.5, 79.5],
    std=[91.0, 91.0, 91.0])

random_affine = dict(
    type='torchvision/RandomAffine',
    degrees=10,
    translate=(0.08, 0.08),
    scale=(0.85, 1.1),
    shear=8,
    interpolation='bilinear',
)
train_pipeline = [dict(type='NumpyToPIL'), random_affine, dict(type='PackInputs')]

test_pipeline = [dict(type='PackInputs')]

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='InfiniteSampler'),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='Digits', split='train', size=24, pipeline=train_pipeline))

val_dataloader = dict(
    batch_size=128,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='Digits', split='val', size=24, pipeline=test_pipeline))
val_evaluator = dict(type='Accuracy', topk=(1, ))

test_dataloader = val_dataloader
test_evaluator = val_evaluator
