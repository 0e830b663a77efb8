#!/usr/bin/env bash
# Builds one policy package of this workspace as a wasm32-wasip1 module.
#
#   scripts/build-module.sh PACKAGE OUTPUT.wasm
#
# It takes the first of these that works:
#   1. the target is installed already: plain cargo;
#   2. rustup can install the target: plain cargo;
#   3. Debian's toolchain, which has the standard library's source: std is compiled along (root installs the packages).
# WASM_TOOLCHAIN=rustup or =debian skips the choice.
set -euo pipefail

target=wasm32-wasip1
package=${1:?usage: $0 PACKAGE OUTPUT.wasm}
output=${2:?usage: $0 PACKAGE OUTPUT.wasm}
choice=${WASM_TOOLCHAIN:-auto}

cd "$(dirname "$0")/.."
target_dir=${CARGO_TARGET_DIR:-target}
debian_packages=(rustc-web rust-web-src lld wasi-libc libclang-rt-14-dev-wasm32)

say() { echo "build-module: $*" >&2; }

# cargo's progress is for terminals.
quiet=$([ -t 2 ] || echo --quiet)

# The source path of a crate ends up in its panic messages: without this the module would differ from machine to machine.
# The linker leaves five bytes for every address and index; compressed they are a tenth of the module.
flags="-C link-arg=--compress-relocations --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}/registry/src=crates --remap-path-prefix=$PWD=."

target_installed() {
    [ -d "$(rustc --print sysroot 2>/dev/null)/lib/rustlib/$target/lib" ]
}

rustup_installs_target() {
    command -v rustup >/dev/null || return 1
    say "installing the target $target with rustup"
    timeout 300 rustup target add "$target" >&2 && target_installed
}

debian_ready() {
    [ -x /usr/bin/rustc ] && command -v wasm-ld >/dev/null && [ -d /usr/lib/wasm32-wasi ] &&
        [ -f "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library/Cargo.toml" ]
}

debian_installs_toolchain() {
    [ -f /etc/debian_version ] || return 1
    [ "$(id -u)" = 0 ] || return 1
    say "installing ${debian_packages[*]}"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${debian_packages[@]}" >&2 ||
        { apt-get update -q >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${debian_packages[@]}" >&2; }
    debian_ready
}

build_with_rustup() {
    say "compiling $package for $target: up to half a minute the first time"
    RUSTFLAGS="$flags" cargo build $quiet --profile wasm --locked --target "$target" --target-dir "$target_dir" -p "$package"
}

build_with_debian() {
    # A directory of its own: two compilers share no artifacts, and std takes minutes to compile once more.
    target_dir=$target_dir/debian
    say "compiling $package for $target, with the standard library: about four minutes the first time"
    RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_WASM32_WASIP1_LINKER=wasm-ld \
        RUSTFLAGS="$flags -L /usr/lib/wasm32-wasi" \
        cargo build $quiet --profile wasm --locked --target "$target" --target-dir "$target_dir" -p "$package" -Zbuild-std=std,panic_abort
}

if [ "$choice" != debian ] && { target_installed || rustup_installs_target; }; then
    build_with_rustup
elif [ "$choice" != rustup ] && { debian_ready || debian_installs_toolchain; }; then
    build_with_debian
else
    say "no compiler for $target here. Run 'rustup target add $target'," \
        "or on Debian, as root, 'apt-get install ${debian_packages[*]}'; then try again."
    exit 1
fi

built=$target_dir/$target/wasm/${package//-/_}.wasm
if command -v wasm-opt >/dev/null &&
    wasm-opt -Os --enable-bulk-memory --enable-mutable-globals --enable-nontrapping-float-to-int --enable-sign-ext \
        --enable-multivalue --enable-reference-types "$built" -o "$output.tmp" 2>/dev/null; then
    say "wasm-opt: $(wc -c <"$built") to $(wc -c <"$output.tmp") bytes"
else
    cp "$built" "$output.tmp"
fi
mv "$output.tmp" "$output"
say "$output: $(wc -c <"$output") bytes"
