"""Imagenette at 64 px, for a small ViT on a CPU; resize_images.py makes the images."""

vit = 'FixedPositionViT'
weights = None
images = dict(type='ImageFolder', data_root='data/imagenette64/train')
val_images = dict(type='ImageFolder', data_root='data/imagenette64/val')
normalize = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
num_classes = 10
num_workers = 0
size = dict(img_size=64, patch_size=8)
arch = dict(embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512)
resnet = dict(depth=18)
resnet_width = 512
tokenizer = dict(type='VQVAETokenizer', checkpoint='weights/vqvae_f4_512.pt')
vocab_size = 512
tokenizer_size = 32
window = 32
mask_ratio = 0.5
batch_size = 64
max_iters = 2000
lr = 1.5e-3
