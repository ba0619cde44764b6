#!/usr/bin/env bash
# Install into .venv with MkDocs, and build the documentation site into site/; any warning is an error.
# Pages open from the folder, but searching needs a server: ./launch/docs.sh && python3 -m http.server -d site
# Arguments go to MkDocs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

./launch/install.sh docs
# MkDocs 2, of which the theme warns, is not what pyproject.toml installs.
NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --clean "$@"
echo "The site is site/index.html." >&2
