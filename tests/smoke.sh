#!/usr/bin/env bash
# `make smoke`: builds the sdist, and from it the wheel; for each Python that is found, installs the wheel in a fresh
# environment and runs the tests of smoke.txt on it. Other versions of Python: `bash tests/smoke.sh 3.11 3.12`.
set -euo pipefail
cd "$(dirname "$0")/.."
versions=("$@")
((${#versions[@]})) || versions=(3.10 3.12 3.13)

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# The first interpreter of a version that runs: on the path, or among pyenv's.
find_python() {
  local python
  for python in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
    if "$python" -c "import ensurepip" 2>/dev/null; then
      echo "$python"
      return
    fi
  done
  return 1
}

"${PYTHON:-python3}" -m build --outdir "$folder/dist" . >"$folder/build.log" 2>&1 || { cat "$folder/build.log"; exit 1; }
wheel=$(ls "$folder"/dist/*.whl)
echo "built $(cd "$folder/dist" && echo *)"

# The tests without the source beside them, so that they import what is installed.
mkdir "$folder/copy"
cp -r tests pytest.ini "$folder/copy"
cd "$folder/copy"

found=0 failed=()
for version in "${versions[@]}"; do
  if ! python=$(find_python "$version"); then
    echo "Python $version: not found"
    continue
  fi
  found=$((found + 1))
  echo "Python $version:"
  "$python" -m venv "$folder/environment"
  installed=$folder/environment/bin/python
  if ! { "$installed" -m pip install --quiet "$wheel[tables]" pytest &&
    "$installed" -c "import tfp_flows; assert 'site-packages' in tfp_flows.__file__, tfp_flows.__file__" &&
    "$installed" -m pytest -q --disable-warnings -p no:cacheprovider @tests/smoke.txt; }; then
    failed+=("$version")
  fi
  rm -rf "$folder/environment"
done

((found)) || { echo "none of Python ${versions[*]} was found"; exit 1; }
((${#failed[@]} == 0)) || { echo "failed on Python ${failed[*]}"; exit 1; }
