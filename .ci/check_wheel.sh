#!/usr/bin/env bash
# Builds sdist and wheel, installs the wheel into a fresh environment, and trains there for
# four steps each, in an empty folder, from configs of the package: a tokenizer, and CIM.
#
#     .ci/check_wheel.sh [PYTHON]
set -euo pipefail
python=$(command -v "${1:-python3}")
repo=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

"$python" -m venv build
build/bin/pip install --quiet build
build/bin/python -m build --outdir dist "$repo" >build.log || { cat build.log; exit 1; }

# The wheel is built from the sdist, and so shows that all of it is there.
"$python" - "$repo" dist/*.tar.gz dist/*.whl <<'EOF'
import sys, tarfile, zipfile
from pathlib import Path

repo, sdist, wheel = map(Path, sys.argv[1:])
in_sdist = {name.partition('/')[2] for name in tarfile.open(sdist).getnames()}
in_wheel = set(zipfile.ZipFile(wheel).namelist())
configs = {str(p.relative_to(repo)) for p in repo.glob('configs/**/*.py')}
needed = {'pyproject.toml', 'setup.py', 'LICENSE', 'mmcim/py.typed', 'mmcim_cli.py'}
assert needed | configs <= in_sdist, (needed | configs) - in_sdist
needed = {f'mmcim/.mim/{name}' for name in {'model-index.yml', *configs}}
needed |= {'mmcim/py.typed', 'mmcim_cli.py', 'mmcim/.mim/tools/train.py'}
assert needed <= in_wheel, needed - in_wheel
tops = {name.split('/')[0] for name in in_wheel if '.dist-info/' not in name}
assert tops == {'mmcim', 'mmcim_cli.py'}, tops
assert not any('__pycache__' in name for name in in_sdist | in_wheel)
EOF

"$python" -m venv env
env/bin/pip install --quiet -c "$repo/constraints.txt" dist/*.whl
export PATH="$work/env/bin:$PATH"
mkdir empty
cd empty
python -c 'import importlib.util as u; assert not u.find_spec("pytest"), "a test tool"'
python -c 'import importlib.util as u; assert not u.find_spec("transformers")'
mmcim --help >/dev/null

cat >tokenizer.py <<'EOF'
_base_ = 'mmcim::quickstart/tokenizer.py'
train_cfg = dict(max_iters=4)
param_scheduler = None
EOF
cat >pretrain.py <<'EOF'
_base_ = 'mmcim::quickstart/cim_respix.py'
train_cfg = dict(max_iters=4)
param_scheduler = None
model = dict(tokenizer=dict(checkpoint='tokenizer/iter_4.pth'))
EOF
for step in tokenizer pretrain; do
    mmcim train "$step.py" --work-dir "$step"
    test -f "$step/iter_4.pth"
done
test -f pretrain/iter_4_backbone.safetensors
python - <<'EOF'
import mmcim
from mmengine.hub import get_config

for name in ('cim/vit-b_8xb256-300e.py', '_base_/default_runtime.py'):
    assert get_config(f'mmcim::{name}').runner_type == 'StrictRunner'
EOF
echo "$(basename "$(ls ../dist/*.whl)") trains outside the clone."
