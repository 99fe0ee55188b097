#!/usr/bin/env bash
# Installs mmdetection beside mmcim, without a second cv2 and without numba.
#
#     .ci/install_det.sh [PYTHON]
set -euo pipefail
python=$(command -v "${1:-python3}")
cd "$(dirname "$0")/.."
command=$("$python" -c 'from runpy import run_path
print(run_path("mmcim/dependencies.py")["INSTALL_MMDET"])')
"$python" -m ${command/#pip/pip --quiet --disable-pip-version-check}
"$python" - <<'PY'
from importlib import metadata

owners = metadata.packages_distributions()
assert len(owners['cv2']) == 1, owners['cv2']
assert 'numba' not in owners
import mmcim, mmdet.models, mmdet.datasets
PY
