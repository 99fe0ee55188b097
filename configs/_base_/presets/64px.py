# What `mmcim pretrain` chooses: here for photographs of 64 px, on a CPU.
images = dict(type='ImageFolder', data_root='data/images', subset='train')
val_images = dict(type='ImageFolder', data_root='data/images', subset='val')
normalize = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
num_classes = 10
num_workers = 2

size = dict(img_size=64, patch_size=8)
arch = dict(embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512)
# Positions of sines and cosines, and Xavier's initialisation: short trainings have no
# time to learn where a patch is.
vit = 'FixedPositionViT'
resnet = dict(depth=18)
resnet_width = 512

# The tokenizer sees half the size, as 112 is of 224: a token per patch.
tokenizer = dict(type='DiscreteVAE', checkpoint='work_dirs/images/dvae/iter_2000.pth')
vocab_size = 512
tokenizer_size = 32
# ResPix's sliding window: the reconstruction has to show what is normalised by it.
window = 32
mask_ratio = 0.5

batch_size = 64
max_iters = 2000
lr = 1.5e-3
weights = None
