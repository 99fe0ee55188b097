r"""Discrete VAE, 4 px, 512 codes, your image folder at 128 px, 50 epochs.

    python tools/train.py configs/tokenizer/dvae-f4-v512_1xb64-50e_folder-128.py \
        --cfg-options train_dataloader.dataset.data_root=/my/images
"""

_base_ = './dvae-f4-v512_1xb64-50e_imagenette-128.py'

# A fifth of the images is for validation.
images = dict(data_root='data/images', data_prefix='')
train_dataloader = dict(num_workers=2, dataset=dict(images, subset='train'))
test_dataloader = dict(batch_size=64, num_workers=2, dataset=dict(images, subset='val'))
