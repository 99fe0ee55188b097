# Copyright (c) mmcim contributors. All rights reserved.
import argparse

import pytest

from mmcim.cli import configs

METAFILE = """
Models:
  - Name: mae_vit-b
    In Collection: MAE
    Config: configs/mae/vit-b.py
    Metadata:
      Description: Pre-training of a ViT-B by MAE
      Paper: 83.6 top-1
  - Name: mae_vit-s_finetune
    Config: configs/mae/vit-s_finetune.py
"""


@pytest.fixture
def listed(tmp_path, monkeypatch, capsys):
    (tmp_path / 'mae').mkdir()
    (tmp_path / 'mae/metafile.yml').write_text(METAFILE)
    monkeypatch.setattr(configs, 'configs_dir', lambda: tmp_path)

    def run(*words):
        configs.run(argparse.Namespace(words=words))
        head, *rows, _, total = capsys.readouterr().out.splitlines()
        return [row.split('  ')[0].strip() for row in rows], ''.join(rows), total

    return run


def test_all_search_words_have_to_match(listed, tmp_path):
    paths, text, total = listed()
    assert paths == ['mae/vit-b.py', 'mae/vit-s_finetune.py']
    assert 'Pre-training of a ViT-B by MAE' in text and '83.6 top-1' in text
    assert total == f'2 configs in {tmp_path}'
    assert listed('MAE', 'pre-training')[0] == ['mae/vit-b.py']
    with pytest.raises(SystemExit, match="no config has 'mae resnet'"):
        listed('mae', 'resnet')


def test_shipped_configs_exist():
    """In a clone they are beside the package."""
    folder = configs.configs_dir()
    rows = configs.read_metafiles(folder)
    assert len(rows) > 50
    assert all((folder / path).is_file() for path, *_ in rows)
