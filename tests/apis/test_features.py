# Copyright (c) mmcim contributors. All rights reserved.
"""Backbones from files, features of images, and mmpretrain's FeatureExtractor."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain import FeatureExtractor, get_model
from mmpretrain.registry import MODELS
from PIL import Image
from torch.testing import assert_close

from mmcim.apis import extract_features, load_backbone
from mmcim.checkpoints import BackboneRecord, read_weights
from mmcim.checkpoints.record import find_backbone_config, tensors_sha256
from mmcim.datasets import list_images
from mmcim.utils import ConfigError

from .conftest import ARCH, MEAN, STD


@pytest.fixture(scope='module')
def backbone(vit):
    return load_backbone(vit)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Five images of 32 px in two folders, and a text."""
    folder = tmp_path_factory.mktemp('images')
    random = np.random.default_rng(0)
    for i, name in enumerate(('b/2.png', 'a/1.png', 'a/3.PNG', 'b/c/4.bmp', '0.tif')):
        pixels = random.integers(0, 256, (32, 32, 3)).astype(np.uint8) // (i + 1)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)
    (folder / 'a/readme.txt').write_text('no image')
    return folder


def normalized(images):
    """As in training: (x * 255 - mean) / std."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    return (images * 255 - mean) / std


def to_tensor(path):
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) / 255


def random_images(number, height=32, width=32):
    pixels = np.random.default_rng(0).integers(0, 256, (number, height, width, 3))
    return [Image.fromarray(image.astype(np.uint8)) for image in pixels]


def tensors(images):
    return (
        torch.stack([torch.from_numpy(np.array(i)) for i in images]).permute(0, 3, 1, 2)
        / 255
    )


@torch.no_grad()
def pooled(network, images):
    """The mean of the feature map of RGB images in [0, 1]."""
    return network(normalized(images))[-1].mean(dim=(2, 3))


def list_paths(folder):
    return [folder / file for file in list_images(folder).files]


def test_features_are_mean_of_feature_map(backbone):
    images = random_images(3)
    with torch.no_grad():
        feature_map = backbone(normalized(tensors(images)))[-1]
    expected = torch.stack(
        [feature_map[:, :, y, x] for y in range(4) for x in range(4)]
    ).mean(0)
    found = extract_features(backbone, images)
    assert found.shape == (3, 32)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert_close(found, expected, rtol=0, atol=1e-5)
    assert found.std(dim=0).mean() > 1e-4  # the images make a difference


def test_feature_maps_are_not_averaged(backbone, folder):
    maps = extract_features(backbone, folder, batch_size=2, out_type='featmap')
    rows, columns = backbone.patch_resolution
    assert maps.shape == (5, backbone.embed_dims, rows, columns)
    assert_close(maps.mean(dim=(2, 3)), extract_features(backbone, folder))
    corner = extract_features(
        backbone, folder, out_type='featmap', read=lambda batch: batch[:, :, 0, 0]
    )
    assert_close(corner, maps[:, :, 0, 0])


def test_input_types_and_batch_sizes_give_same_features(backbone, folder):
    paths = list_paths(folder)
    expected = pooled(backbone, torch.stack([to_tensor(p) for p in paths]))
    as_text = [str(path) for path in paths]
    opened = [Image.open(path) for path in paths]
    for images in (folder, str(folder), paths, as_text, opened):
        found = extract_features(backbone, images, batch_size=2)
        assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize('num_workers', [0, 1, 2])
def test_workers_change_nothing(backbone, folder, num_workers):
    torch.manual_seed(3)
    expected = pooled(backbone, torch.stack([to_tensor(p) for p in list_paths(folder)]))
    state = torch.get_rng_state()
    for batch_size in (1, 2, 3, 8):
        found = extract_features(backbone, folder, batch_size, num_workers=num_workers)
        assert_close(found, expected, rtol=0, atol=1e-5)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.gpu
def test_same_features_on_a_gpu(vit, backbone, folder):
    expected = extract_features(backbone, folder)
    network = load_backbone(vit, 'cuda')
    for num_workers in (0, 2):
        found = extract_features(network, folder, 2, num_workers=num_workers)
        assert found.device.type == 'cpu'
        assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_opened_images_are_read_without_workers(backbone, folder):
    """Forked processes would share the position in the open file."""
    images = [*list_paths(folder), Image.open(list_paths(folder)[0])]
    found = extract_features(backbone, images, batch_size=1, num_workers=2)
    assert_close(found[-1], found[0], rtol=0, atol=1e-5)
    assert_close(found[:-1], extract_features(backbone, folder), rtol=0, atol=1e-5)


def test_error_in_a_worker_names_the_image(backbone, folder, tmp_path):
    (tmp_path / 'broken.jpg').write_bytes(b'\xff\xd8 no image')
    paths = [*list_paths(folder), tmp_path / 'broken.jpg']
    with pytest.raises(ConfigError, match='Cannot read the image .*broken.jpg'):
        extract_features(backbone, paths, batch_size=2, num_workers=2)


def test_progress_is_shown_on_demand(backbone, folder, screen):
    shown = screen(False)
    extract_features(backbone, folder, batch_size=2)
    assert shown() == ''
    extract_features(backbone, folder, batch_size=2, progress=True)
    assert shown() == 'Features of 5 images 3/3\n'


@pytest.mark.parametrize(
    ('out_type', 'pick'),
    [
        ('raw', lambda tokens: tokens[:, 1:].mean(1)),
        ('cls_token', lambda tokens: tokens[:, 0]),
    ],
)
def test_other_out_types(vit, out_type, pick):
    images = random_images(2)
    tokens = load_backbone(vit, out_type='raw')(normalized(tensors(images)))[-1]
    found = extract_features(load_backbone(vit, out_type=out_type), images)
    assert_close(found, pick(tokens).detach(), rtol=0, atol=1e-5)


def test_masked_and_convolutional_backbones(write_backbone):
    masked = dict(
        type='FusedBEiTPretrainViT',
        arch=ARCH,
        img_size=32,
        patch_size=8,
        out_type='raw',
        use_shared_rel_pos_bias=True,
        use_rel_pos_bias=False,
    )
    network = load_backbone(write_backbone(masked))
    assert extract_features(network, random_images(1)).shape == (1, 32)
    resnet = load_backbone(write_backbone(dict(type='ResNet', depth=18)))
    image = Image.fromarray(np.full((50, 40, 3), 128, np.uint8))
    grey = torch.full((1, 3, 224, 224), 128 / 255)
    found = extract_features(resnet, [image])
    assert_close(found, pooled(resnet, grey), rtol=1e-5, atol=1e-5)


def test_files_are_resized_and_center_cropped(backbone, tmp_path):
    """Left and right eighths of a wide image are cropped."""
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:, 16:80] = 100
    middle, wide = tmp_path / 'middle.png', tmp_path / 'wide.png'
    Image.fromarray(pixels[:, 16:80]).save(middle)
    Image.fromarray(pixels).save(wide)
    pixels[:, :6] = pixels[:, -6:] = 255
    Image.fromarray(pixels).save(tmp_path / 'edges.png')
    plain = torch.full((1, 3, 32, 32), 100 / 255)
    features = extract_features(backbone, [middle, wide, tmp_path / 'edges.png'])
    assert_close(features[:1], pooled(backbone, plain), rtol=0, atol=1e-5)
    assert_close(features[1], features[2], rtol=0, atol=1e-5)
    tall = extract_features(backbone, [middle], img_size=(16, 32))
    expected = pooled(backbone, plain[:, :, :16])
    assert_close(tall, expected, rtol=0, atol=1e-5)


def test_exif_orientation_is_applied(backbone, tmp_path, folder):
    image = Image.open(list_paths(folder)[1])
    exif = Image.Exif()
    exif[0x0112] = 6  # stored rotated by 90 degrees to the left
    rotated = tmp_path / 'rotated.png'
    image.transpose(Image.Transpose.ROTATE_90).save(rotated, exif=exif)
    found = extract_features(backbone, [rotated])
    expected = extract_features(backbone, [image])
    assert_close(found, expected, rtol=0, atol=1e-5)


def test_half_precision_network(vit, folder):
    expected = extract_features(load_backbone(vit), folder)
    found = extract_features(load_backbone(vit).to(torch.bfloat16), folder)
    assert found.dtype == torch.float32
    assert_close(found, expected, rtol=0, atol=0.05 * expected.abs().max().item())


@pytest.mark.parametrize('kind', [str, Image.open])
@pytest.mark.parametrize('suffix', ['png', 'jpg', 'tif'])
def test_error_names_truncated_image(backbone, folder, tmp_path, kind, suffix):
    path = tmp_path / f'half.{suffix}'
    Image.open(list_paths(folder)[1]).resize((200, 200)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ConfigError, match=rf'Cannot read the image .*half\.{suffix}'):
        extract_features(backbone, [kind(path)])


def test_training_mode_is_restored(vit):
    network = load_backbone(vit, drop_rate=0.5)
    network.train()
    images = random_images(2)
    first, second = (extract_features(network, images) for _ in range(2))
    assert torch.equal(first, second)
    assert network.training


def test_features_of_same_class_are_similar(imagenette_mini, vit):
    """Rows are in the order of the paths: each is nearest to its copy."""
    network = load_backbone(vit)
    paths = list_paths(imagenette_mini / 'val')[::40]
    features = extract_features(network, paths + paths[::-1])
    distances = torch.cdist(features[: len(paths)], features[len(paths) :])
    nearest = distances.argmin(dim=1)
    assert nearest.tolist() == list(range(len(paths)))[::-1]


@pytest.mark.parametrize('training', [True, False])
def test_training_mode_is_restored_after_error(vit, tmp_path, training):
    network = load_backbone(vit)
    network.train(training)
    with pytest.raises(ConfigError, match='Cannot read the image .*missing.png'):
        extract_features(network, [tmp_path / 'missing.png'])
    assert network.training is training


def test_errors_name_the_problem(backbone, write_backbone, tmp_path):
    with pytest.raises(ConfigError, match=r'has no images \(.jpg'):
        extract_features(backbone, tmp_path)
    with pytest.raises(ConfigError, match='is not a folder'):
        extract_features(backbone, tmp_path / 'none')
    (tmp_path / 'broken.jpg').write_bytes(b'\xff\xd8 no image')
    with pytest.raises(ConfigError, match='Cannot read the image .*broken.jpg'):
        extract_features(backbone, tmp_path)
    with pytest.raises(ConfigError, match='Cannot read the image .*missing.png'):
        extract_features(backbone, [tmp_path / 'missing.png'])
    unknown = write_backbone(dict(type='ResNet', depth=18), mean=[], std=[])
    network = load_backbone(unknown)
    with pytest.raises(ValueError, match='set backbone.normalization'):
        extract_features(network, random_images(1))
    network.normalization = ([127.5] * 3, [127.5] * 3)
    assert extract_features(network, random_images(1)).shape == (1, 512)


def test_load_backbone(vit):
    network = load_backbone(vit)
    assert type(network).__name__ == 'VisionTransformer'
    assert not network.training
    for name, value in read_weights(vit).tensors.items():
        assert torch.equal(network.state_dict()[name], value)
    assert network.normalization == (MEAN, STD)


def test_position_embeddings_are_resized(vit):
    network, larger = load_backbone(vit), load_backbone(vit, img_size=48)
    assert larger.pos_embed.shape == (1, 37, 32)
    assert torch.equal(larger.pos_embed[:, 0], network.pos_embed[:, 0])
    # The original network resizes them in each forward pass.
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, expected = larger(images)[-1], network(images)[-1]
    assert torch.cosine_similarity(found, expected, dim=1).min() > 0.999


def test_file_without_backbone_raises(tmp_path):
    torch.save(dict(a=torch.zeros(1)), tmp_path / 'a.pth')
    with pytest.raises(ConfigError, match='does not say which network'):
        load_backbone(tmp_path / 'a.pth')


@pytest.fixture
def image(tmp_path):
    random = np.random.default_rng(0)
    path = tmp_path / 'image.png'
    pixels = random.integers(0, 256, (160, 160, 3)).astype(np.uint8)
    Image.fromarray(pixels).resize((300, 300)).save(path)
    return path


def small_config(repo, name):
    """A config with a small network, as --cfg-options would make it."""
    cfg = Config.fromfile(repo / 'configs' / name)
    model = cfg.model.get('enhancer', cfg.model)
    if model.backbone.type == 'ResNet':
        model.backbone.depth = 18
    else:
        model.backbone.arch = dict(ARCH)
    model.backbone.pop('init_cfg', None)
    return cfg


@pytest.mark.parametrize(
    'name',
    [
        'cim/vit-b_8xb256-300e.py',
        'cim/vit-s_revdet_1xb128-300e_imagenette-128.py',
        'cim/resnet50_revdet_8xb256-300e.py',
    ],
)
def test_features_of_a_pretraining_checkpoint(repo, tmp_path, image, name):
    """Nobody needs the tokenizer's weights; the result is the backbone's."""
    cfg = small_config(repo, name)
    torch.manual_seed(0)
    backbone = MODELS.build(cfg.model.enhancer.backbone)
    backbone.init_weights()
    tensors, prefix = backbone.state_dict(), 'enhancer.backbone.'
    state = {prefix + name: value for name, value in tensors.items()}
    state['generator.head.weight'] = torch.zeros(1)
    checkpoint = tmp_path / 'epoch_1.pth'
    config = find_backbone_config(cfg, prefix)
    record = BackboneRecord(config, tensors_sha256(tensors), prefix, mean=MEAN, std=STD)
    torch.save(dict(state_dict=state, meta=dict(backbone=record.dumps())), checkpoint)

    size = cfg.test_pipeline[-2].crop_size
    pixels = np.array(Image.open(image).resize((size, size), Image.Resampling.BICUBIC))
    images = (torch.from_numpy(pixels) - torch.tensor(MEAN)) / torch.tensor(STD)
    backbone.train(False)
    with torch.no_grad():
        expected = backbone(images.permute(2, 0, 1)[None])[-1][0]
    network = load_backbone(checkpoint)
    vectors = extract_features(network, [image], img_size=size)
    assert_close(vectors[0], expected.mean(dim=(1, 2)), rtol=0, atol=1e-4)


def test_mmpretrains_own_functions_on_a_classifier(repo, tmp_path):
    """FeatureExtractor and get_model with the path of a config."""
    config = repo / 'configs/quickstart/finetune.py'
    torch.manual_seed(0)
    model = get_model(str(config))
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'a.pth')
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3)).astype(np.uint8)
    (found,) = FeatureExtractor(str(config), str(tmp_path / 'a.pth'))(pixels)
    images = (torch.from_numpy(pixels).permute(2, 0, 1)[None] - 79.5) / 91.0
    with torch.no_grad():
        expected = model.extract_feat(images)[-1]
    assert_close(found[-1], expected[0], rtol=0, atol=1e-5)


def test_mmpretrain_extractor_accepts_pretraining(repo, image):
    """It builds the whole CIM and returns features of uncorrupted images."""
    cfg = Config.fromfile(repo / 'configs/quickstart/cim_respix.py')
    cfg.model.update(tokenizer=None, generator=None, grid=(6, 6))
    extract = FeatureExtractor(cfg, pretrained=False)
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3)).astype(np.uint8)
    found = extract([pixels, pixels[::-1]])
    assert len(found) == 2
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = extract.model.enhancer.backbone((images - 79.5) / 91.0)[-1]
    assert_close(found[0][-1], expected[0], rtol=0, atol=1e-5)
