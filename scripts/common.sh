# SPDX-License-Identifier: Apache-2.0 OR MIT
# shellcheck shell=bash
# Functions shared by the scripts; sourced, never run.

# Oldest Rust that the crates in native/ accept.
RUST_MIN=1.88

# Prints the folder for what may be kept between builds.
cache_dir()
{
    local home=${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}
    printf '%s\n' "${XDG_CACHE_HOME:-$home/.cache}/aperture"
}

# True when version $1 is $2 or newer.
version_at_least()
{
    [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n1) == "$2" ]]
}

# Prints the path of a cargo that is new enough: the machine's own, or Debian's.
find_cargo()
{
    local cargo version
    for cargo in "$(command -v cargo || true)" /usr/bin/cargo; do
        [[ -n $cargo && -x $cargo ]] || continue
        version=$("$cargo" --version 2>/dev/null | cut -d' ' -f2) || continue
        if [[ -n $version ]] && version_at_least "$version" "$RUST_MIN"; then
            printf '%s\n' "$cargo"
            return 0
        fi
    done
    return 1
}

# Runs a command as root.
as_root()
{
    if [[ $(id -u) -eq 0 ]]; then
        "$@"
    else
        sudo "$@"
    fi
}
