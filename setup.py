# Copyright (c) mmcim contributors. All rights reserved.
import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r"'(.+)'", (HERE / 'mmcim/version.py').read_text()).group(1)

setup(
    name='mmcim',
    version=VERSION,
    description='Corrupted Image Modeling as an extension of mmpretrain',
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['mmcim', 'mmcim.*']),
    python_requires='>=3.10,<3.13',
    install_requires=[
        'torch>=2.6,<3',
        'torchvision>=0.21,<1',
        'timm>=1.0.31,<2',
        'safetensors>=0.4',
        'scikit-learn>=1.4',
        'scipy>=1.10',
        'numpy>=1.26,<3',
        'rich>=13',
        'pillow>=10',
        # The maintained forks of the OpenMMLab packages, which install and resume with
        # current releases of torch.
        'onedl-mmengine>=0.10.12,<0.11',
        'onedl-mmcv>=2.3.6,<2.4',
        'onedl-mmpretrain>=1.3.6,<1.4',
        'onedl-mmsegmentation>=1.4.2,<1.5',
    ],
    extras_require={
        # To open what tools/model_converters/export_backbone.py --to hf writes.
        'hf': ['transformers>=4.57,<6'],
        'dev': [
            'attrs',  # which dall-e needs and does not ask for
            'dall-e==0.1',
            'pytest>=8',
            'pytest-xdist>=3',
            'ruff>=0.9',
            'transformers>=4.57,<6',
        ],
    },
)
