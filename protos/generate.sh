#!/usr/bin/env bash
# Generates the Python stubs of all protos below the directory $1.
# The generator is an old one on purpose: stubs refuse a runtime older than their generator.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p "$1"
out=$(cd "$1" && pwd)

if [ ! -e .venv-protos/ready ]; then
    "${PYTHON:-python3}" -m venv .venv-protos
    .venv-protos/bin/pip install --quiet --disable-pip-version-check \
        grpcio-tools==1.76.0 mypy-protobuf==5.1.0 setuptools==80.9.0
    touch .venv-protos/ready
fi

cd protos
protoc=(../.venv-protos/bin/python -m grpc_tools.protoc -I.)
"${protoc[@]}" --python_out="$out" --pyi_out="$out" $(find tandem -name '*.proto' | sort)
"${protoc[@]}" --grpc_python_out="$out" --mypy_grpc_out="quiet:$out" \
    --plugin=protoc-gen-mypy_grpc=../.venv-protos/bin/protoc-gen-mypy_grpc \
    $(grep -l --recursive --include='*.proto' '^service ' tandem | sort)
