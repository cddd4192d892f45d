#!/usr/bin/env bash
# Builds the images: deploy/build.sh [coordinator] [worker-cpu] [cli] [worker-cuda]; default: the first three. Takes the pins of
# images.env; further arguments of the builder come from BUILD_ARGS. Builder: BUILDER, else podman, else docker.
set -euo pipefail
cd "$(dirname "$0")/.."
# Health checks are a part of the image in this format only.
export BUILDAH_FORMAT=docker
set -a
. deploy/images.env
set +a
builder=${BUILDER:-$(command -v podman || command -v docker)} || {
  echo "error: neither podman nor docker is here" >&2
  echo "  fix: install one of them, or set BUILDER" >&2
  exit 1
}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
[ $# -gt 0 ] || set -- coordinator worker-cpu cli
for image in "$@"; do
  file=deploy/containers/$image.Containerfile
  target=()
  if [ "$image" = cli ]; then
    file=deploy/containers/worker-cpu.Containerfile
    target=(--target cli)
  fi
  wanted=$(sed -n '/^FROM/q; s/^ARG \([A-Z_]*_IMAGE\)$/\1/p' "$file")
  arguments=()
  for name in $wanted; do
    if [[ ${!name} == *FILL-IN* ]]; then
      echo "error: deploy/images.env names no digest for $name" >&2
      echo "  fix: write the digest that you have checked in place of FILL-IN" >&2
      exit 2
    fi
    arguments+=(--build-arg "$name=${!name}")
  done
  # shellcheck disable=SC2086 # BUILD_ARGS is a list of words
  "$builder" build "${arguments[@]}" "${target[@]}" ${BUILD_ARGS:-} --file "$file" \
    --tag "localhost/fulltime/$image:$version" .
done
