"""Imagenette at 64 px, for a small ViT on a CPU; resize_images.py makes the images."""

_base_ = '../../configs/_base_/presets/64px.py'

images = dict(data_root='data/imagenette64/train', subset=None)
val_images = dict(data_root='data/imagenette64/val', subset=None)
num_workers = 0
tokenizer = dict(type='VQVAETokenizer', checkpoint='weights/vqvae_f4_512.pt')
