# Copyright (c) mmcim contributors. All rights reserved.
import pytest

from mmcim.utils import ConfigError, load_config
from mmcim.utils.building import check_arguments
from mmcim.utils.files import refuse_code

TAGGED = '!!python/object/apply:os.mkdir [{}]'
RENAMED = '%TAG !x! tag:yaml.org,2002:python/\n--- !x!object/apply:os.mkdir [{}]'


@pytest.mark.parametrize(
    ('name', 'content'),
    [
        ('a.pkl', ''),
        ('a.PICKLE', ''),
        ('a.yaml', f'samples:\n- {TAGGED}'),
        ('a.yml', TAGGED),
        ('a.yml', RENAMED),
    ],
)
def test_files_that_run_code_are_refused(tmp_path, name, content):
    ran = tmp_path / 'ran'
    (tmp_path / name).write_text(content.format(ran))
    with pytest.raises(ConfigError, match=f'{name} .*run code'):
        refuse_code(tmp_path / name)
    dataset = dict(type='CustomDataset', data_root=str(tmp_path), ann_file=name)
    loader = dict(dataset=dict(type='RepeatDataset', times=2, dataset=dataset))
    with pytest.raises(ConfigError, match=f'{name} .*run code'):
        check_arguments(dict(train_dataloader=loader))
    if content:
        with pytest.raises(ConfigError, match=f'{name} .*run code'):
            load_config(tmp_path / name)
    assert not ran.exists()


def test_plain_files_pass(tmp_path):
    (tmp_path / 'a.yml').write_text('model: {type: CIM, sizes: [1, 2.5, null, x]}')
    refuse_code(tmp_path / 'a.yml')
    assert load_config(tmp_path / 'a.yml').model.sizes == [1, 2.5, None, 'x']
    for other in ('a.txt', 'missing.yaml', 'a.json'):
        refuse_code(tmp_path / other)
