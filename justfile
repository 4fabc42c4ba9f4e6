# Shortcuts; each line is what one would type.

# The recipes
default:
    @just --list

# Two private instances on loopback: sign, verify, refuse
demo:
    cargo run --release -- demo

# Everything that CI checks
test:
    ./test

# Ratios to a floor or a peer of the same run, see docs/performance.md
bench:
    cargo bench --locked -p countersign-cli --bench process
    cargo bench --locked -p countersign-cli --bench image
    cargo bench --locked -p countersign-cli --bench admission
    cargo bench --locked -p countersign-policy --bench decide
    cargo bench --locked -p countersign-differential --bench verify
    cargo bench --locked -p countersign-log --bench append
    cargo bench --locked -p countersign-log --bench index
    cargo bench --locked -p countersign-cli --bench issue

# A log under 64 writers beside its floor, at half the rate, and repeats: a minute, with nothing else running
hammer:
    cargo build --release --locked -p countersign-cli
    scripts/load

# Memory of a log from one to ten million entries
soak:
    cargo bench --locked -p countersign-log --bench soak

# Format the sources
fmt:
    cargo fmt --all

# Formatting, lints, and if cargo-deny is installed licences, bans and sources
lint:
    cargo fmt --all --check
    cargo clippy --release --workspace --all-targets --locked -- -D warnings
    if command -v cargo-deny >/dev/null; then cargo deny check licenses bans sources; fi

# Fuzz, so many seconds each target. `just fuzz 600 bundle verify`
fuzz *arguments:
    scripts/fuzz {{arguments}}

# The static binary and the container image made of it
image:
    scripts/image
